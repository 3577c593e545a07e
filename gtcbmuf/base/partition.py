"""Partition of a range into nearly equal parts."""


def share(count: int, parts: int, part: int) -> tuple[int, int]:
    """First index and end of a part of a range; the sizes of parts differ by one at most.

    Args:
        count: number of items.
        parts: number of parts.
        part: index of the part.

    Example:
        >>> [share(10, 3, part) for part in range(3)]
        [(0, 3), (3, 6), (6, 10)]
    """
    return count * part // parts, count * (part + 1) // parts
