"""Pronunciations from espeak-ng, for any of its languages. Needs the extra `synth`."""

import ctypes
import re

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.extras import require_extra
from gtcbmuf.data.importing.lexicon import Lexicon, Pronunciation, bare_word, find_tag

#: Lexicon of a language: espeak:VOICE, such as espeak:en-us.
PREFIX = "espeak:"

# From espeak-ng's speak_lib.h.
_SYNCHRONOUS, _DONT_EXIT, _UTF8 = 2, 0x8000, 1
_SEPARATED = ord("_") << 8  # phonemes are separated by this character
_NO_SOUNDS = re.compile(r"[',%=|]|_:|_\||_!|\([a-z][a-z0-9-]*\)")  # (en): a word of that language


class EspeakLexicon(Lexicon):
    """The pronunciation that espeak-ng gives each word, in its mnemonics, without stress.

    Args:
        voice: language or voice of espeak-ng, such as "en-us" or "cs".

    Raises:
        UserError: the extra is not installed, or there is no such voice.

    Examples:
        >>> lexicon = EspeakLexicon("en-us")
        >>> words = lexicon.words("Hello, world!")
        >>> words, lexicon["world"]
        (['hello', 'world'], [('w', '3:', 'l', 'd')])
    """

    def __init__(self, voice: str) -> None:
        super().__init__([])
        require_extra("synth", ("espeakng_loader",), f"the lexicon {PREFIX}{voice} needs")
        from espeakng_loader import get_data_path, get_library_path

        self._library = ctypes.CDLL(get_library_path())
        data = str(get_data_path()).encode()
        self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, _DONT_EXIT)
        if self._library.espeak_SetVoiceByName(voice.encode()):
            raise UserError(
                f"--lexicon {PREFIX}{voice}: no such voice; expected a language of espeak-ng, such "
                "as en-us or cs"
            )
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._library.espeak_TextToPhonemes.argtypes = [
            *(ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int)
        ]

    def __contains__(self, word: str) -> bool:
        return bool(self[word])

    def __getitem__(self, word: str) -> list[Pronunciation]:
        if find_tag(word):
            return []
        key = bare_word(word)
        if key not in self._pronunciations:
            phones = self._pronounce(key)
            self._pronunciations[key] = [phones] if phones else []
        return self._pronunciations[key]

    def _divide(self, piece: str) -> list[str]:
        word = bare_word(piece)
        return [word] if any(map(str.isalnum, word)) else []

    def _pronounce(self, word: str) -> Pronunciation:
        text, names = ctypes.c_char_p(word.encode()), []
        while text.value is not None:  # the library moves the pointer clause by clause
            phonemes = self._library.espeak_TextToPhonemes(ctypes.byref(text), _UTF8, _SEPARATED)
            names += re.split("[_ ]", _NO_SOUNDS.sub("", phonemes.decode(errors="replace")))
        return tuple(name for name in names if name)
