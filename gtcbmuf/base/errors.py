"""The error class for user errors."""


class UserError(Exception):
    """A user error: one line that names the option or file, its value, and the valid values.

    The command line prints it without a traceback and exits with status 2.

    Args:
        message: text of the error. Several lines, such as a library's, are joined into one.

    Attributes:
        status: exit status of the program.

    Examples:
        >>> str(UserError("--rounds 0: expected\\n1 or more"))
        '--rounds 0: expected 1 or more'
    """

    status = 2

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))
