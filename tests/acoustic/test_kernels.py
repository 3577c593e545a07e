"""The kernels of rectifiers against NumPy, bit by bit, compiled and interpreted."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from gtcbmuf.acoustic import kernels

FLOATS = st.floats(-8, 8, width=32)


@st.composite
def layers(draw: Any) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Draw outputs and deltas (B, m), and biases (m,)."""
    shape = draw(st.tuples(st.integers(0, 4), st.integers(1, 40)))
    elements = st.one_of(FLOATS, st.sampled_from([0.0, -0.0, np.inf, -np.inf, np.nan]))
    matrix = arrays.arrays(np.float32, shape, elements=elements, fill=FLOATS)
    return draw(matrix), draw(matrix), draw(arrays.arrays(np.float32, shape[1], elements=FLOATS))


def test_rectifiers_equal_numpy(form: Any) -> None:
    @given(layers())
    def check(layer: Any) -> None:
        outputs, delta, biases = layer
        expected = np.maximum(outputs + biases, 0)
        form(kernels.add_rectified)(biases, outputs)
        np.testing.assert_array_equal(outputs, expected)

        expected = np.where(outputs == 0, 0, delta)
        form(kernels.stop_where_off)(outputs, delta)
        np.testing.assert_array_equal(delta, expected)

    check()
