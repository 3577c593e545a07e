"""Speech with exact phone boundaries from libespeak-ng, through ctypes.

espeak-ng reports the first sample of every phoneme. The library has global state and its own
random numbers. Only a fresh process with a seed reproduces the same bits.
"""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 22050

# Phones, with their espeak-ng mnemonics in the eight English accents. In every accent, vowels
# follow the lexical sets of American English: the mnemonic "aa", as in "bath", is the phone "ae".
_MNEMONICS = {
    "sil": "",
    "aa": "A: 0",
    "ae": "a aa",
    "ah": "V",
    "ao": "O: O2",
    "aw": "aU",
    "ax": "@ @2 @- a#",
    "axr": "3",
    "ay": "aI aI2 aI3 aI@",
    "eh": "E",
    "er": "3: IR VR",
    "ey": "eI",
    "ih": "I I2 I#",
    "iy": "i: i",
    "ow": "oU",
    "oy": "OI",
    "uh": "U",
    "uw": "u:",
    "aar": "A@",
    "aor": "O@ o@",
    "ehr": "e@",
    "ihr": "i@ i@3",
    "uhr": "U@",
    "b": "b",
    "ch": "tS",
    "d": "d",
    "dh": "D",
    "dx": "t#",
    "el": "@L",
    "f": "f",
    "g": "g",
    "hh": "h",
    "jh": "dZ",
    "k": "k",
    "l": "l",
    "m": "m",
    "n": "n n-",
    "ng": "N",
    "p": "p",
    "r": "r r-",
    "s": "s",
    "sh": "S",
    "t": "t t2 t[ ?",
    "th": "T",
    "v": "v",
    "w": "w w#",
    "y": "j ;",
    "z": "z",
    "zh": "Z",
}
PHONES = tuple(_MNEMONICS)
_PHONE_OF = {name: phone for phone, names in _MNEMONICS.items() for name in names.split()}
_VOWELS = frozenset(PHONES[PHONES.index("aa") : PHONES.index("b")])
_STOPS = frozenset({"p", "t", "k", "b", "d", "g", "ch", "jh"})
_LIQUIDS = frozenset({"l", "r"})

# Durations in samples.
_MAX_CLOSURE = 120 * SAMPLE_RATE // 1000
_MIN_PAUSE = 30 * SAMPLE_RATE // 1000
_MIN_LIQUID = 25 * SAMPLE_RATE // 1000

# From espeak-ng's speak_lib.h.
_OUTPUT_SYNCHRONOUS = 2
_PHONEME_EVENTS, _DONT_EXIT = 1, 0x8000
_BUFFER_MS = 500
_END_OF_LIST, _PHONEME = 0, 7
_RATE, _CHARACTERS, _UTF8 = 1, 1, 1


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class Segment(NamedTuple):
    """A phone and its samples.

    Attributes:
        phone: name of the phone.
        begin: first sample.
        end: sample after the last one.
    """

    phone: str
    begin: int
    end: int


def find_phone(mnemonic: str) -> str | None:
    """Return the phone of an espeak-ng mnemonic, or None for a pause. Stress marks are ignored.

    Raises:
        ValueError: the mnemonic is unknown.

    >>> find_phone("'aI"), find_phone("_:")
    ('ay', None)
    """
    name = mnemonic.lstrip("',%=")
    if name.startswith("_"):
        return None
    try:
        return _PHONE_OF[name]
    except KeyError:
        raise ValueError(
            f"unknown espeak-ng mnemonic {mnemonic!r}; expected one of an English voice"
        ) from None


def align(
    samples: NDArray[np.int16], events: Sequence[tuple[int, str]]
) -> tuple[NDArray[np.int16], list[Segment]]:
    """Trim the silence at the end of an utterance, and divide the rest into phones.

    espeak-ng's silence consists of exact zeros and ends where a phone begins. Three rules adjust
    the boundaries of espeak-ng:

    - Up to 120 ms of silence before a stop belong to the stop, as its closure.
    - Other silence of more than 30 ms is "sil". Shorter silence belongs to the phone before it.
    - espeak-ng speaks a liquid at the end of a syllable within the vowel, and reports it late. The
      liquid gets the last 40 % of the vowel and the liquid together.

    Args:
        samples: waveform, (samples,) int16.
        events: first sample and mnemonic of each phoneme, in order.

    Returns:
        The trimmed waveform, and contiguous segments that cover it.

    Raises:
        ValueError: the waveform is silent, or a mnemonic is unknown.
    """
    nonzero = np.flatnonzero(samples)
    if not len(nonzero):
        raise ValueError("espeak-ng spoke only silence")
    samples = samples[: nonzero[-1] + 1]

    begins: list[tuple[str, int]] = []
    previous_begin = 0
    for sample, mnemonic in events:
        phone = find_phone(mnemonic)
        if phone is None:
            continue
        begin = min(sample, len(samples))
        count = np.searchsorted(nonzero, begin)
        silence = int(nonzero[count - 1]) + 1 if count else 0
        # A glottal stop is silent, but does not belong to the next phone.
        silence = max(silence, previous_begin)
        previous_begin = begin
        if phone in _STOPS:
            begin = max(silence, begin - _MAX_CLOSURE)
        if begin - silence > _MIN_PAUSE:
            begins.append(("sil", silence))
        begins.append((phone, begin if begins else 0))

    for i in range(1, len(begins)):
        (vowel, start), (phone, begin) = begins[i - 1 : i + 1]
        end = begins[i + 1][1] if i + 1 < len(begins) else len(samples)
        if phone in _LIQUIDS and vowel in _VOWELS and end - begin < _MIN_LIQUID:
            begins[i] = (phone, start + (end - start) * 3 // 5)

    ends = [begin for _, begin in begins[1:]] + [len(samples)]
    return samples, [Segment(*phone, end) for phone, end in zip(begins, ends, strict=True)]


def library_version() -> str:
    """Return the version of libespeak-ng, such as "1.52.0"."""
    info = _load_library().espeak_Info
    info.restype = ctypes.c_char_p
    info.argtypes = [ctypes.c_void_p]
    return str(info(None).decode())


class Synthesiser:
    """Speaks with the voice of one speaker.

    A process can have only one synthesiser, because libespeak-ng has global state.

    Args:
        data: espeak-ng data directory.
        voice: name of the voice and its variant, such as "en-us+speaker".
        rate: words per minute.
        seed: seed of the library's random numbers.

    Raises:
        RuntimeError: the library rejects an argument.
    """

    def __init__(self, data: Path, voice: str, *, rate: int, seed: int) -> None:
        self._library = _load_library()
        self._library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        self._library.espeak_Synth.argtypes = [
            *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint),
            *(ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p),
        ]
        library_rate = self._library.espeak_Initialize(
            _OUTPUT_SYNCHRONOUS, _BUFFER_MS, bytes(data), _PHONEME_EVENTS | _DONT_EXIT
        )
        if library_rate != SAMPLE_RATE:
            raise RuntimeError(
                f"espeak-ng cannot use {data}: sample rate {library_rate}; expected {SAMPLE_RATE}"
            )
        self._audio: list[bytes] = []
        self._events: list[tuple[int, str]] = []
        self._callback = _Callback(self._receive)  # a reference, for later calls by the library
        self._library.espeak_SetSynthCallback(self._callback)
        self._check(self._library.espeak_ng_SetRandSeed(seed), "SetRandSeed")
        self._check(self._library.espeak_SetVoiceByName(voice.encode()), f"voice {voice}")
        self._check(self._library.espeak_SetParameter(_RATE, rate, 0), f"rate {rate}")

    def __call__(self, text: str) -> tuple[NDArray[np.int16], list[Segment]]:
        """Speak a text.

        Returns:
            Waveform at 22,050 Hz, (samples,) int16, and its segments, as from `align`.

        Raises:
            RuntimeError: the library rejects the text.
            ValueError: the library speaks only silence, or an unknown mnemonic.
        """
        self._audio.clear()
        self._events.clear()
        encoded = text.encode() + b"\0"
        self._check(
            self._library.espeak_Synth(encoded, len(encoded), 0, _CHARACTERS, 0, _UTF8, None, None),
            f"text {text!r}",
        )
        return align(np.frombuffer(b"".join(self._audio), np.int16), self._events)

    def _receive(
        self, wave: "ctypes._Pointer[ctypes.c_short]", count: int, event: "ctypes._Pointer[_Event]"
    ) -> int:
        """Collect a piece of audio and its phonemes. The library calls this method."""
        if count > 0:
            self._audio.append(ctypes.string_at(wave, 2 * count))
        i = 0
        while event[i].type != _END_OF_LIST:
            if event[i].type == _PHONEME:
                self._events.append((event[i].sample, event[i].id.decode()))
            i += 1
        return 0

    @staticmethod
    def _check(status: int, argument: str) -> None:
        if status:
            raise RuntimeError(f"espeak-ng rejects {argument}: status {status:#x}")


def _load_library() -> ctypes.CDLL:
    from espeakng_loader import get_library_path

    return ctypes.CDLL(get_library_path())
