"""Texts become sound files: written text to spoken words, to a voice's audio, to a cached telephone WAV."""
