"""The numbers of threads that numerical libraries read from the environment."""

import os
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.threads import set_threads

LIBRARIES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def threads(**variables: str) -> list[str]:
    """The variables of OpenMP and of the libraries, as `set_threads` leaves them."""
    with mock.patch.dict(os.environ, variables, clear=True):
        set_threads()
        return [os.environ[name] for name in ("OMP_NUM_THREADS", *LIBRARIES)]


@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_variable_is_not_set(value: str) -> None:
    assert threads() == threads(OMP_NUM_THREADS=value) == ["1"] * 4
    assert threads(OMP_NUM_THREADS="3", NUMBA_NUM_THREADS=value) == ["3"] * 4


def test_a_librarys_own_variable_counts() -> None:
    assert threads(OMP_NUM_THREADS="3", MKL_NUM_THREADS="2") == ["3", "3", "2", "3"]


@given(st.lists(st.integers(1, 99_999), min_size=1), st.sampled_from([",", ", ", " ,"]))
def test_the_first_number_of_a_list_counts(numbers: list[int], comma: str) -> None:
    value = comma.join(map(str, numbers))
    openmp, *libraries = threads(OMP_NUM_THREADS=value)
    assert openmp == value  # OpenMP has the others for nested levels
    assert libraries == [str(numbers[0])] * 3


@pytest.mark.parametrize("value", ["0", "-1", "4,0", "4,", ",", "4;2", "four", "1.5", "0x4", "1e9"])
@pytest.mark.parametrize("variable", ["OMP_NUM_THREADS", "NUMBA_NUM_THREADS"])
def test_another_value_is_refused(variable: str, value: str) -> None:
    with pytest.raises(UserError, match=f"^{variable}={value}: expected a number of threads"):
        threads(**{variable: value})
