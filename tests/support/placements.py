"""Ways to place the ranks of a job on hosts, all emulated on one machine."""


def placements(ranks: int) -> list[list[str]]:
    """Return the host of each rank, in several ways. In the first one all ranks have one host."""
    unequal = {1: "a", 2: "ab", 4: "aaab", 8: "aaaaabbc"}[ranks]
    lone_first = "a" + "b" * (ranks - 1)
    halves = "a" * (ranks // 2) + "b" * (ranks - ranks // 2)
    interleaved = ("ab" * ranks)[:ranks]
    each = "abcdefgh"[:ranks]
    return [
        list(p)
        for p in dict.fromkeys(["a" * ranks, each, halves, unequal, lone_first, interleaved])
    ]
