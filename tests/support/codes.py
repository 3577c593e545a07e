"""The codes of the wire as strings of bits: oracles of gtcbmuf.core.coding."""


def words_of(bits: str) -> list[int]:
    """Words of a string of zeros and ones, the lowest bit first."""
    return [int(bits[i : i + 32][::-1], 2) for i in range(0, len(bits), 32)]


def field(number: int, width: int) -> str:
    return f"{number:0{width}b}"[::-1] if width else ""


def gaps_as_bits(places: list[int], extras: list[int], bits: int, k: int) -> list[int]:
    """Golomb-Rice codes of the gaps: all fields, then all quotients."""
    fields, quotients, least = "", "", 0
    for place, extra in zip(places, extras, strict=True):
        quotient, remainder = divmod(place - least, 2**k)
        fields += field(remainder << bits | extra % 2**bits, k + bits)
        quotients += "0" * quotient + "1"
        least = place + 1
    return words_of(fields) + words_of(quotients)


def quotients_as_bits(numbers: list[int], m: int) -> list[int]:
    return words_of("".join("0" * (number >> m) + "1" for number in numbers))


def fields_as_bits(values: list[int], width: int) -> list[int]:
    codes = [2 * value if value >= 0 else -2 * value - 1 for value in values]
    return words_of("".join(field(code, width) for code in codes))
