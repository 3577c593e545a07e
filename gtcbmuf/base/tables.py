"""Tables in Markdown and LaTeX."""

from collections.abc import Sequence


def signed(percent: float) -> str:
    """Format a change in per cent with its sign.

    Examples:
        >>> signed(3.14), signed(-0.01)
        ('+3.1', '+0.0')
    """
    return f"{round(percent, 1) + 0.0:+.1f}"


def markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table. The first column is left-aligned, the others are right-aligned.

    Args:
        headers: header of each column.
        rows: cells of each row.

    Examples:
        >>> print(markdown(("method", "FER"), [("gtc", "30.1")]))
        | method |  FER |
        | ------ | ---: |
        | gtc    | 30.1 |
    """
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]

    def line(cells: Sequence[str], fill: str = " ") -> str:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1], fill)] + [c.rjust(w, fill) for c, w in others]
        return "| " + " | ".join(padded) + " |"

    ruler = line(["-" * widths[0]] + ["-" * (width - 1) + ":" for width in widths[1:]])
    return "\n".join([line(headers), ruler, *map(line, rows)])


def latex(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a LaTeX tabular. The first column is left-aligned, the others are right-aligned.

    Args:
        headers: header of each column.
        rows: cells of each row.
    """
    lines = [" & ".join(row) + r" \\" for row in (headers, *rows)]
    head, *body = [line.replace("%", r"\%") for line in lines]
    begin = rf"\begin{{tabular}}{{l{'r' * (len(headers) - 1)}}}"
    return "\n".join([begin, r"\hline", head, r"\hline", *body, r"\hline", r"\end{tabular}"])
