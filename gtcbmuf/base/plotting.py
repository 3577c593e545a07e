"""Pictures in files. Matplotlib is loaded when the first one is drawn."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gtcbmuf.base.errors import UserError


@contextmanager
def picture(path: Path, width: float, height: float) -> Iterator[Any]:
    """Draw a picture: a context manager that gives axes, and saves them at the end.

    Args:
        path: file of the picture. Matplotlib must know its suffix.
        width, height: size of the picture in inches.

    Yields:
        Matplotlib's axes.

    Raises:
        UserError: the suffix is unknown, or the file cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(width, height), layout="constrained")
    try:
        yield axes
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be drawn: {error}") from None
    finally:
        pyplot.close(figure)
