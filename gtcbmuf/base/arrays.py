"""Types of arrays that many modules share."""

import numpy as np
from numpy.typing import NDArray

#: Parameters, gradients, residuals: (n,).
Vector = NDArray[np.float32]
#: Frames, scores, weights: two dimensions.
Matrix = NDArray[np.float32]
#: Messages as they travel.
Words = NDArray[np.uint32]
