"""What an owner may decide about prompts; `config.default.toml` documents each."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, PositiveFloat, PositiveInt, model_validator


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HttpVoiceSettings(_Section):
    url: str
    headers: dict[str, str]
    body: dict[str, JsonValue]
    female: str
    male: str


class PromptSettings(_Section):
    folder: str
    max_text_chars: PositiveInt
    concurrency: PositiveInt
    keep_mb: PositiveInt
    keep_days: PositiveInt
    recordings: str
    voice: Literal["espeak", "command", "http"]
    timeout_s: PositiveFloat
    max_audio_mb: PositiveInt
    words_per_minute: int = Field(ge=80, le=450)
    spell_out: bool
    command: list[str]
    http: HttpVoiceSettings

    @model_validator(mode="after")
    def _voice_is_set_up(self) -> PromptSettings:
        if self.voice == "command" and not self.command:
            raise ValueError('voice = "command" needs the program in prompts.command')
        if self.voice == "http" and not self.http.url.startswith(("http://", "https://")):
            raise ValueError('voice = "http" needs an http(s) address in prompts.http.url')
        return self
