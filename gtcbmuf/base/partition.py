"""Partition of a range into nearly equal parts."""


def share(count: int, parts: int, part: int) -> tuple[int, int]:
    """Return the first index and the end of one part of a range.

    The sizes of the parts differ by at most one.

    Args:
        count: number of items.
        parts: number of parts.
        part: index of the part.

    Examples:
        >>> [share(10, 3, part) for part in range(3)]
        [(0, 3), (3, 6), (6, 10)]
    """
    return count * part // parts, count * (part + 1) // parts
