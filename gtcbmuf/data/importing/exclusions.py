"""The utterances that an import leaves out."""

from gtcbmuf.base.errors import UserError

#: Number of items that a message gives as examples.
EXAMPLES = 3


class Exclusions:
    """Utterances that an import leaves out, with their reasons.

    Args:
        total: number of all utterances.
        limit: the largest share of them that may be left out, from 0 to 1.

    Raises:
        UserError: the limit is no share.
    """

    def __init__(self, total: int, limit: float) -> None:
        if not 0 <= limit <= 1:
            raise UserError(f"--most-bad {limit:g}: expected a share, from 0 to 1")
        self.total = total
        self._limit = limit
        self._reasons: dict[str, str] = {}
        self._hints: list[str] = []

    def __len__(self) -> int:
        return len(self._reasons)

    def add(self, name: str, reason: str, hint: str = "") -> None:
        """Leave out an utterance.

        Args:
            name: of the utterance.
            reason: of the exclusion.
            hint: what to do. The error below includes it if most excluded utterances share it.

        Raises:
            UserError: the excluded utterances exceed the limit.
        """
        self._reasons[name] = reason
        self._hints.append(hint)
        if len(self) <= self._limit * self.total:
            return
        common = f"; {hint}" if hint and 2 * self._hints.count(hint) > len(self) else ""
        raise UserError(
            f"more than {100 * self._limit:g} % (--most-bad) of {self.total} utterances "
            f"cannot be used{self.format_examples()}{common}"
        )

    def format_examples(self) -> str:
        """Return the first exclusions in parentheses, as the end of a message."""
        examples = [f"{name}: {reason}" for name, reason in self._reasons.items()][:EXAMPLES]
        return f" ({'; '.join(examples)})" if examples else ""

    def format_log(self) -> str:
        """Return a line with their number, and a line for each exclusion."""
        lines = [f"{len(self)} of {self.total} utterances were left out"]
        lines += [f"{name}: {reason}" for name, reason in self._reasons.items()]
        return "\n".join(lines) + "\n"
