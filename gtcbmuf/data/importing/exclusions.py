"""The utterances that an import excludes."""

from gtcbmuf.base.errors import UserError

#: Number of examples in a message.
EXAMPLES = 3


class Exclusions:
    """The utterances that an import excludes, with the reasons.

    Args:
        total: number of all utterances.
        limit: largest share of the utterances that may be excluded, from 0 to 1.

    Raises:
        UserError: the limit is below 0 or above 1.
    """

    def __init__(self, total: int, limit: float) -> None:
        if not 0 <= limit <= 1:
            raise UserError(f"--most-bad {limit:g}: expected a share from 0 to 1")
        self.total = total
        self._limit = limit
        self._reasons: dict[str, str] = {}
        self._hints: list[str] = []

    def __len__(self) -> int:
        return len(self._reasons)

    @property
    def reasons(self) -> dict[str, str]:
        """Reason for each excluded utterance, by name."""
        return dict(self._reasons)

    def add(self, name: str, reason: str, hint: str = "") -> None:
        """Exclude an utterance.

        Args:
            name: name of the utterance.
            reason: reason for the exclusion.
            hint: advice for the user. The error message includes it if most excluded utterances
                have the same hint.

        Raises:
            UserError: the share of excluded utterances exceeds the limit, or no other utterance is
                left.
        """
        self._reasons[name] = reason
        self._hints.append(hint)
        if len(self) > self._limit * self.total:
            amount = f"more than {100 * self._limit:g} % (--most-bad) of"
        elif len(self) == self.total:
            amount = "all"
        else:
            return
        advice = f"; {hint}" if hint and 2 * self._hints.count(hint) > len(self) else ""
        raise UserError(
            f"{amount} {self.total} utterances are unusable{self.format_examples()}{advice}"
        )

    def format_examples(self) -> str:
        """Format the first exclusions in parentheses, for the end of a message."""
        examples = [f"{name}: {reason}" for name, reason in self._reasons.items()][:EXAMPLES]
        return f" ({'; '.join(examples)})" if examples else ""

    def format_log(self) -> str:
        """Format the number of exclusions as a line, and each exclusion as a further line."""
        lines = [f"{len(self)} of {self.total} utterances excluded"]
        lines += [f"{name}: {reason}" for name, reason in self._reasons.items()]
        return "\n".join(lines) + "\n"
