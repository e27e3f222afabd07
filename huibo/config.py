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

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
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
    max_body_bytes: PositiveInt
    body_timeout_s: PositiveFloat


class EngineSettings(_Section):
    url: str
    username: str
    password: str
    app: str
    heartbeat_s: PositiveFloat
    reconnect_s: PositiveFloat
    request_timeout_s: PositiveFloat
    lost_after_s: PositiveFloat


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


class PushSettings(_Section):
    connect_timeout_s: PositiveFloat
    timeout_s: PositiveFloat
    status_retry_s: list[PositiveFloat]
    cdr_retry_s: list[PositiveFloat]
    retry_jitter: float = Field(ge=0, lt=1)
    concurrency: PositiveInt
    concurrency_per_receiver: PositiveInt
    allowed_networks: list[str]

    @field_validator("allowed_networks")
    @classmethod
    def _are_networks(cls, networks: list[str]) -> list[str]:
        for network in networks:
            ip_network(network, strict=False)
        return networks


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
    calls: Calls
    push: PushSettings
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


def load(file: Path | None = None) -> Settings:
    """The settings: the environment over `file` (else the one that HUIBO_CONFIG names) over the defaults.

    Raises `BadSettings`.
    """
    if file is None and (named := os.environ.get("HUIBO_CONFIG")):
        file = Path(named)
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
