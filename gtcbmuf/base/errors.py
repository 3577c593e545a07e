"""The error that a user can mend."""


class UserError(Exception):
    """A fault in what the user gave: one line that names it, its value, and what would be right.

    The command line prints it without a traceback and exits with status 2. What a library said in
    several lines becomes one.

    Attributes:
        status: what the program ends with.
    """

    status = 2

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))
