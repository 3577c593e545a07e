"""Shapes of a model's arrays. The arrays lie one after another in the model's flat vector."""

import itertools
import math
from collections.abc import Sequence

#: Shapes of a model's arrays, in the order of the flat vector.
Shapes = Sequence[tuple[int, ...]]


def count_parameters(shapes: Shapes) -> int:
    """Count the parameters of arrays with these shapes.

    Examples:
        >>> count_parameters([(3, 4), (4,)])
        16
    """
    return sum(map(math.prod, shapes))


def column_ends(shapes: Shapes) -> list[int]:
    """Return the ends of all columns in the flat vector: the weights that leave one input.

    A vector, such as a layer's biases, is one column.

    Examples:
        >>> column_ends([(2, 3), (3,)])
        [3, 6, 9]
    """
    lengths = [length for *rows, length in shapes for _ in range(math.prod(rows))]
    return list(itertools.accumulate(lengths))


def square_matrices(parameters: int, number: int) -> list[tuple[int, ...]]:
    """Return the shapes of a model of equal square matrices, and of a vector with the rest.

    Args:
        parameters: n, of the whole model.
        number: number of matrices.

    Examples:
        >>> square_matrices(210, 2)
        [(10, 10), (10, 10), (10,)]
    """
    side = math.isqrt(parameters // number)
    rest = parameters - number * side * side
    matrices = [(side, side)] * number if side else []
    return [*matrices, *([(rest,)] if rest else [])]
