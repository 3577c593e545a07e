"""Pictures in files. Matplotlib is loaded when the first one is drawn."""

import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import named, reason, replacing


def check_suffix(path: Path, option: str = "") -> None:
    """Check that a picture's format is known, by the suffix of its file.

    Raises:
        UserError: the suffix is missing or unknown.
    """
    _load_pyplot()
    from matplotlib.backend_bases import FigureCanvasBase

    known = sorted(FigureCanvasBase.get_supported_filetypes().keys() - {"pgf"})  # needs TeX
    if path.suffix[1:].lower() not in known:
        expected = ", ".join(f".{suffix}" for suffix in known)
        where = named(path, option)
        raise UserError(f"{where}: cannot be drawn: suffix {path.suffix!r}; expected {expected}")


@contextmanager
def picture(path: Path, width: float, height: float, option: str = "") -> Iterator[Any]:
    """Draw a picture: a context manager that gives axes, and saves them at the end.

    Args:
        path: file of the picture. Matplotlib must know its suffix.
        width, height: size of the picture in inches.
        option: command-line option with which the user named the path.

    Yields:
        Matplotlib's axes.

    Raises:
        UserError: the suffix is unknown, or the file cannot be written.
    """
    with pictures(path, width, height, 1, option=option) as [axes]:
        yield axes


@contextmanager
def pictures(
    path: Path,
    width: float,
    height: float,
    panels: int,
    *,
    share_y: bool = True,
    option: str = "",
) -> Iterator[Sequence[Any]]:
    """Draw panels side by side in one picture, as `picture` draws one.

    Args:
        path, width, height, option: as for `picture`.
        panels: number of panels. They share the horizontal axis.
        share_y: whether they share the vertical axis, too.

    Yields:
        Matplotlib's axes of each panel.

    Raises:
        UserError: as for `picture`.
    """
    check_suffix(path, option)
    pyplot = _load_pyplot()
    figure, [axes] = pyplot.subplots(
        1,
        panels,
        figsize=(width, height),
        layout="constrained",
        sharex=True,
        sharey=share_y,
        squeeze=False,
    )
    try:
        yield axes
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=150, format=path.suffix[1:].lower())
    except OSError as error:
        raise UserError(f"{named(path, option)}: cannot be drawn: {reason(error)}") from None
    finally:
        pyplot.close(figure)


def svg_element(name: str, width: float, height: float, draw: Callable[[Any], None]) -> str:
    """Draw a picture as an SVG element of an HTML page. The same drawing gives the same text.

    The element has no background, and its text has the font of the page.

    Args:
        name: of the picture. It starts all ids, so that a page can hold several pictures.
        width, height: size of the picture in inches.
        draw: called with matplotlib's axes.

    Examples:
        >>> svg_element("loss", 3, 2, lambda axes: axes.plot([1, 2], [3, 4]))[:4]
        '<svg'
    """
    pyplot = _load_pyplot()
    settings: Any = {
        "axes.formatter.useoffset": False,
        "font.size": 9,
        "svg.fonttype": "none",
        "svg.hashsalt": name,
    }
    text = io.StringIO()
    with pyplot.rc_context(settings):
        figure, axes = pyplot.subplots(figsize=(width, height), layout="constrained")
        try:
            draw(axes)
            no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            figure.savefig(text, format="svg", transparent=True, metadata=no_metadata)
        finally:
            pyplot.close(figure)
    element = text.getvalue()
    element = element[element.index("<svg") :]
    element = re.sub(r"font-family: [^;]*; ", "", element)
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", element)


def _load_pyplot() -> Any:
    """Load matplotlib's pyplot, without a display and without the user's settings."""
    # Jupyter's terminal names a backend of its kernel, and a matplotlibrc may need LaTeX.
    os.environ["MPLBACKEND"] = "agg"
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcdefaults()
    from matplotlib import pyplot

    return pyplot
