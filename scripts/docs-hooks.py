"""Hooks of mkdocs: links to files outside docs/ lead to copies of them in the site."""

import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<=\]\()(\.\.?/[^)#\s]+)(?=[)#])")
PICTURES = (".png", ".svg")


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Redirect a page's links that leave docs/."""
    folder = Path(page.file.abs_src_path).parent

    def redirected(match: re.Match[str]) -> str:
        target = (folder / match[1]).resolve()
        if target.is_relative_to(config.docs_dir) or not target.exists():
            return match[1]  # mkdocs reports a missing file
        if target.is_dir():
            return "#"
        name = f"repository/{target.relative_to(ROOT)}"
        if target.suffix not in PICTURES:
            name += ".txt"  # a browser shows text, and saves an unknown type
        if files.get_file_from_path(name) is None:
            files.append(File.generated(config, name, abs_src_path=str(target)))
        depth = len(PurePosixPath(page.file.src_uri).parts) - 1
        return "../" * depth + name

    return LINK.sub(redirected, markdown)
