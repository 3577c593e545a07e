"""Array types that many modules share."""

import numpy as np
from numpy.typing import NDArray

#: (n,) parameters, gradient or residual of a model.
Vector = NDArray[np.float32]
#: Frames, scores or weights, with two dimensions.
Matrix = NDArray[np.float32]
#: (w,) words of an encoded message.
Words = NDArray[np.uint32]
#: (n,) sums of integers.
Integers = NDArray[np.int32]
