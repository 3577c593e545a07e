"""The comments above the keys of the declarations: meaning, and when to change a key."""

import inspect
import re

from msgspec import Struct


def key_comments(struct: type[Struct]) -> dict[str, list[str]]:
    """Return the paragraphs of the comment (`#:`) above each key of a declaration.

    The first paragraph is the meaning of the key, the second says when to change it.

    Examples:
        >>> from gtcbmuf.config.schema import TrainConfig
        >>> key_comments(TrainConfig)["epochs"][0]
        'Passes over the train split.'
    """
    comments: dict[str, list[str]] = {}
    for declaration in reversed(struct.__mro__[: struct.__mro__.index(Struct)]):
        pending: list[str] = []
        for line in inspect.getsource(declaration).splitlines():
            key = re.match(r" {4}(\w+): ", line)
            if key and key[1] in struct.__struct_fields__:
                paragraphs = "\n".join(pending).split("\n\n")
                comments[key[1]] = [" ".join(text.split()) for text in paragraphs]
            text = line.strip()
            pending = [*pending, text[2:].strip()] if text.startswith("#:") else []
    return comments
