"""The HTML elements of a report page, and their style."""

from collections.abc import Iterable, Sequence
from html import escape

_STYLE = """
:root { color-scheme: light; }
body { max-width: 1160px; margin: 0 auto; padding: 1.5rem 1rem 3rem; background: #fff; color: #222;
  font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { max-width: 50rem; margin: .5rem 0; }
.note, figcaption { color: #555; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap; }
thead th { border-bottom: 1.5px solid #222; vertical-align: bottom; }
tbody tr + tr > * { border-top: 1px solid #e4e4e4; }
tbody th { font-weight: 400; }
th:first-child, .results :nth-child(2) { text-align: left; }
.values thead th { min-width: 6rem; white-space: normal; overflow-wrap: anywhere; }
tbody th, thead th:first-child { position: sticky; left: 0; background: #fff; }
.key { display: inline-block; width: 28px; height: 10px; margin-right: .5rem; }
.square { display: inline-block; width: .8em; height: .8em; margin-right: .35rem; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1.4rem; margin: 0 0 .8rem; padding: 0;
  list-style: none; font-size: .9rem; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px), 1fr));
  gap: 1.2rem 1.5rem; }
figure { margin: 0; }
figcaption { font-weight: 600; color: #222; font-size: .95rem; }
figure svg { display: block; width: 100%; max-width: 620px; height: auto; }
.bar { display: flex; width: 12rem; height: 1.1rem; }
.bar span { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
details { margin: .4rem 0; }
summary { cursor: pointer; }
details table { margin: .4rem 0 1rem 1.1rem; }
details td, details tbody th { vertical-align: top; }
.facts td { white-space: normal; overflow-wrap: anywhere; text-align: left; }
.facts tbody th { color: #555; }
code { font: .85rem/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
@media (max-width: 600px) { body { padding: 1rem .7rem; } .bar { width: 9rem; }
  tbody th, thead th:first-child { position: static; } }
"""


def document(title: str, body: str) -> str:
    """Return a whole document. Its policy forbids scripts and whatever is not in the file.

    Args:
        title: text of the title.
        body: HTML of the body.
    """
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
{body}
</body>
</html>
"""


def table(
    headers: Iterable[str], heads: Iterable[str], rows: Sequence[Sequence[str]], kind: str = ""
) -> str:
    """Return a table in a box that scrolls.

    Args:
        headers: HTML of the first row.
        heads: HTML of the first cell of the others.
        rows: HTML of their other cells.
        kind: class of the table.

    Examples:
        >>> print(table(["method", "FER"], ["gtc"], [["30.1"]]).splitlines()[3])
        <tr><th scope="row">gtc</th><td>30.1</td></tr>
    """
    head = "".join(f'<th scope="col">{header}</th>' for header in headers)
    body = "\n".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in row)}</tr>'
        for first, row in zip(heads, rows, strict=True)
    )
    return (
        f'<div class="wide"><table class="{kind}">\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def facts_table(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a table of names and values, both text."""
    rows = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{code(value)}</td></tr>'
        for name, value in pairs
    )
    return f'<table class="facts"><tbody>\n{rows}\n</tbody></table>'


def code(text: str) -> str:
    """Return text in the font of code."""
    return f"<code>{escape(text)}</code>"


def details(summary: str, content: str) -> str:
    """Return a block of HTML that opens with a click on its summary."""
    return f"<details><summary>{summary}</summary>\n{content}\n</details>"
