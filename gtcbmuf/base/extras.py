"""The optional dependencies of some commands."""

import importlib.util
from collections.abc import Sequence

from gtcbmuf.base.errors import UserError


def require_extra(extra: str, modules: Sequence[str], purpose: str) -> None:
    """Check that the modules of an extra are installed.

    Args:
        extra: name of the extra, for the command that installs it.
        modules: that the extra installs.
        purpose: subject and verb of the message, such as "an import of audio needs".

    Raises:
        UserError: a module is not installed.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise UserError(
                f"{purpose} {module}, which is not installed: pip install 'gtcbmuf[{extra}]'"
            )
