"""All settings. The only place that reads the environment.

Defaults and their reasons stand in `config.default.toml` and nowhere else. Precedence: environment
(`HUIBO_…`, `__` between section and name), the file named by `HUIBO_CONFIG`, the defaults.
"""

from __future__ import annotations

import os
import tomllib
from ipaddress import ip_network
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from huibo.model import Leg, RingSound

DEFAULTS = Path(__file__).with_name("config.default.toml")


_PARTIES = {"caller": Leg.CALLER, "callee": Leg.CALLEE}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Http(_Section):
    host: str
    port: int = Field(ge=0, le=65535)
    public_url: str
    tls_certificate: str
    tls_key: str
    trusted_proxies: list[str]
    max_body_bytes: PositiveInt
    max_import_bytes: PositiveInt
    body_timeout_s: PositiveFloat
    max_head_bytes: int = Field(ge=1024)
    max_headers: int = Field(ge=10)
    head_timeout_s: PositiveFloat
    idle_timeout_s: PositiveInt
    send_timeout_s: PositiveFloat
    max_connections: PositiveInt
    max_connections_per_address: PositiveInt
    requests_per_s: int = Field(ge=0)

    @field_validator("trusted_proxies")
    @classmethod
    def _are_addresses(cls, entries: list[str]) -> list[str]:
        for entry in entries:
            ip_network(entry, strict=False)
        return entries

    @field_validator("public_url")
    @classmethod
    def _is_a_base(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and (parts.scheme not in ("http", "https") or not parts.hostname or "?" in url or "#" in url):
            raise ValueError("an http or https URL without query and fragment, or nothing")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Http:
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ValueError("tls_certificate and tls_key belong together")
        for file in filter(None, (self.tls_certificate, self.tls_key)):
            if not os.access(file, os.R_OK):
                raise ValueError(f"{file} is not there, or cannot be read")
        return self

    @property
    def base_url(self) -> str:
        """What customers put before a path of ours; no slash at its end."""
        here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        scheme = "https" if self.tls_certificate else "http"
        return self.public_url or f"{scheme}://{f'[{here}]' if ':' in here else here}:{self.port}"


class EngineSettings(_Section):
    url: str
    username: str
    password: str
    app: str
    heartbeat_s: PositiveFloat
    reconnect_s: PositiveFloat
    request_timeout_s: PositiveFloat
    lost_after_s: PositiveFloat


class CellSettings(_Section):
    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    beat_s: PositiveFloat
    lost_after_s: PositiveFloat
    patience_s: PositiveFloat


class Calls(_Section):
    dispatch_deadline_s: PositiveInt
    caller_ring_s: PositiveInt
    callee_ring_s: PositiveInt
    default_talk_min: PositiveInt
    max_talk_min: PositiveInt
    ring_sound: RingSound
    warn_s: int = Field(ge=0)
    warn: tuple[Leg, ...]
    key_wait_s: PositiveInt
    no_audio_s: int = Field(ge=0)

    @field_validator("warn", mode="before")
    @classmethod
    def _are_parties(cls, names: object) -> object:
        if not isinstance(names, list) or not set(names) <= _PARTIES.keys():
            raise ValueError('a list of "caller" and "callee"')
        return tuple(_PARTIES[name] for name in names)


class TrunkSettings(_Section):
    look_s: PositiveFloat
    watch_calls: PositiveInt
    lock_min: PositiveInt


class AbuseSettings(_Section):
    refusals: int = Field(ge=0)
    refusals_s: PositiveInt
    unanswered: int = Field(ge=0)
    unanswered_s: PositiveInt
    lock_min: PositiveInt


class PushSettings(_Section):
    connect_timeout_s: PositiveFloat
    timeout_s: PositiveFloat
    status_retry_s: list[PositiveFloat]
    cdr_retry_s: list[PositiveFloat]
    retry_jitter: float = Field(ge=0, lt=1)
    disable_after_s: PositiveFloat
    concurrency: PositiveInt
    concurrency_per_receiver: PositiveInt
    keep_old_secret_s: int = Field(ge=0)
    allowed_networks: list[str]

    @field_validator("allowed_networks")
    @classmethod
    def _are_networks(cls, networks: list[str]) -> list[str]:
        for network in networks:
            ip_network(network, strict=False)
        return networks


class RecordingSettings(_Section):
    folder: Path
    raw_folder: Path
    format: Literal["mp3", "opus", "wav"]
    keep_days: PositiveInt
    concurrency: PositiveInt
    retry_s: list[PositiveFloat]
    time_limit_s: PositiveFloat

    @field_validator("folder", "raw_folder")
    @classmethod
    def _is_absolute(cls, folder: Path) -> Path:
        return folder.absolute()  # the engine and the helper processes work in folders of their own


class HttpVoiceSettings(_Section):
    url: str
    headers: dict[str, str]
    body: dict[str, JsonValue]
    female: str
    male: str


class PromptSettings(_Section):
    folder: Path
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

    @field_validator("folder")
    @classmethod
    def _is_absolute(cls, folder: Path) -> Path:
        return folder.absolute()  # the engine works in a folder of its own

    @model_validator(mode="after")
    def _voice_is_set_up(self) -> PromptSettings:
        if self.voice == "command" and not self.command:
            raise ValueError('voice = "command" needs the program in prompts.command')
        if self.voice == "http" and not self.http.url.startswith(("http://", "https://")):
            raise ValueError('voice = "http" needs an http(s) address in prompts.http.url')
        return self


class Log(_Section):
    format: Literal["json", "console"]
    level: Literal["debug", "info", "warning", "error"]
    mask: bool


class Settings(BaseSettings):
    """The settings of one huibo process; `config.default.toml` documents each."""

    model_config = SettingsConfigDict(
        env_prefix="HUIBO_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    database_url: str
    http: Http
    engine: EngineSettings
    cell: CellSettings
    calls: Calls
    trunks: TrunkSettings
    abuse: AbuseSettings
    push: PushSettings
    recording: RecordingSettings
    prompts: PromptSettings
    log: Log

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        files = settings_cls.model_config.get("toml_file") or DEFAULTS
        assert isinstance(files, Path | list)
        return (env_settings, TomlConfigSettingsSource(settings_cls, toml_file=files, deep_merge=True))


class BadSettings(Exception):
    """The settings cannot be used. The message says which and why, a line each."""


def file_in_use() -> Path | None:
    """The settings file that HUIBO_CONFIG names."""
    named = os.environ.get("HUIBO_CONFIG")
    return Path(named) if named else None


def load(file: Path | None = None) -> Settings:
    """The settings: the environment over `file` (else the one that HUIBO_CONFIG names) over the defaults.

    Raises `BadSettings`.
    """
    file = file or file_in_use()
    if file is not None and not file.is_file():
        raise BadSettings(f"no such settings file: {file}")

    class Configured(Settings):
        model_config = SettingsConfigDict(toml_file=[DEFAULTS, *([file] if file else [])])

    try:
        return Configured()
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise BadSettings("\n".join(lines)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise BadSettings(f"{file}: {error}") from error
    except ValueError as error:  # an environment variable that is not JSON where it must be
        raise BadSettings(str(error)) from error
