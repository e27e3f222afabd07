"""libespeak-ng through ctypes: words in, samples out.

Runs in the helper process alone (`espeak_worker`): the library is GPL-3 and never loaded into huibo itself.
"""

from __future__ import annotations

import ctypes

import espeakng_loader

_SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: the callback is done when espeak_Synth returns
_DONT_EXIT = 0x8000
_RATE, _VOLUME = 1, 2  # espeak_PARAMETER
_UTF8 = 1  # flag of espeak_Synth: neither markup nor phonemes are looked for in the text
_MAX_BYTES = 60_000_000  # over 20 minutes: something is wrong

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


class EspeakError(Exception):
    """The library refused."""


class Library:
    """The one instance of a process; the library keeps its state in globals."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._library.espeak_Synth.argtypes = [
            ctypes.c_char_p,  # text
            ctypes.c_size_t,  # its size with the closing zero
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_uint,  # flags
            ctypes.c_void_p,
            ctypes.c_void_p,
        ]
        data = espeakng_loader.get_data_path().encode()
        self.rate: int = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, _DONT_EXIT)
        if self.rate <= 0:
            raise EspeakError("espeak-ng does not start")
        self._samples = bytearray()
        self._callback = _Callback(self._take)  # kept: the library holds only its address
        self._library.espeak_SetSynthCallback(self._callback)

    def say(self, text: str, voice: str, words_per_minute: int, volume: int) -> bytes:
        """Mono 16-bit samples at `rate`. `volume`: 100 is normal. Raises `EspeakError`."""
        if self._library.espeak_SetVoiceByName(voice.encode()):
            raise EspeakError(f"espeak-ng has no voice {voice}")
        self._library.espeak_SetParameter(_RATE, words_per_minute, 0)
        self._library.espeak_SetParameter(_VOLUME, volume, 0)
        self._samples.clear()
        raw = text.encode("utf-8", "ignore")
        if self._library.espeak_Synth(raw, len(raw) + 1, 0, 0, 0, _UTF8, None, None):
            raise EspeakError("espeak-ng refused the text")
        if len(self._samples) > _MAX_BYTES:
            raise EspeakError("the text is too long")
        return bytes(self._samples)

    def _take(self, samples: int | None, count: int, _events: int | None) -> int:
        if samples and count > 0:
            self._samples += ctypes.string_at(samples, count * 2)
        return int(len(self._samples) > _MAX_BYTES)  # 1 ends it
