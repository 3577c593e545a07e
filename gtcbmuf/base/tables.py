"""Tables in Markdown and LaTeX."""

from collections.abc import Sequence


def signed(percent: float) -> str:
    """A change in per cent, with its sign; what rounds to nothing is +0.0."""
    return f"{round(percent, 1) + 0.0:+.1f}"


def markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose columns line up; the first is flush left, the others right."""
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]

    def line(cells: Sequence[str], fill: str = " ") -> str:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1], fill)] + [c.rjust(w, fill) for c, w in others]
        return "| " + " | ".join(padded) + " |"

    ruler = line(["-" * widths[0]] + ["-" * (width - 1) + ":" for width in widths[1:]])
    return "\n".join([line(headers), ruler, *map(line, rows)])


def latex(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A tabular; the first column is flush left, the others right."""
    lines = [" & ".join(row) + r" \\" for row in (headers, *rows)]
    head, *body = [line.replace("%", r"\%") for line in lines]
    begin = rf"\begin{{tabular}}{{l{'r' * (len(headers) - 1)}}}"
    return "\n".join([begin, r"\hline", head, r"\hline", *body, r"\hline", r"\end{tabular}"])
