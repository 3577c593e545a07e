"""Pictures to files; matplotlib is loaded only when one is drawn."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gtcbmuf.base.errors import UserError


@contextmanager
def picture(path: Path, width: float, height: float) -> Iterator[Any]:
    """Axes to draw on, of that many inches; at the end of the block they are saved.

    Raises:
        UserError: an ending that matplotlib does not know, or a place that cannot be written to.
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
