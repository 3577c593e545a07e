"""Cutting a range into equal parts."""


def share(count: int, parts: int, part: int) -> tuple[int, int]:
    """First and end of part `part` of `count` items: parts differ by one item at the most."""
    return count * part // parts, count * (part + 1) // parts
