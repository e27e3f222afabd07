"""How the program speaks to its operator: structured lines, phone numbers masked.

Every line goes to standard error. No module prints, and none logs bodies or secrets.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

import orjson
import structlog

from huibo.config import Log
from huibo.numbers import mask

# E.164, the wire's form, and bare national numbers, also between Chinese characters; call ids and times must
# not look like these
_PHONE = re.compile(r"(?<![\w-])(?:\+?86|0086)?(0\d{9,11}|1[3-9]\d{9})(?![\w-])|(\+\d{8,15})", re.ASCII)
_DIGITS = re.compile(r"\d{8}", re.ASCII)  # what has not so many in a row, as most texts, is no number
_AS_JSON = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME  # these show as `repr` has them


def configure(settings: Log) -> None:
    """Set up structlog, and the standard logging of libraries through it."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,  # text before the masking, not after it
    ]
    if settings.mask:
        shared.append(mask_numbers)
    if settings.format == "json":
        last: list[Any] = [structlog.processors.JSONRenderer(to_json)]
        foreign = [*last, lambda _logger, _method, line: line.decode()]
        factory: Any = structlog.BytesLoggerFactory(sys.stderr.buffer)
    else:
        colours = sys.stderr.isatty()
        last = [structlog.dev.ConsoleRenderer(colours, exception_formatter=structlog.dev.plain_traceback)]
        foreign = last
        factory = structlog.WriteLoggerFactory(sys.stderr)
    structlog.configure(
        processors=[*shared, *last],
        logger_factory=factory,  # by way of logging it costs twice as much
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.level.upper())),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *foreign],
        )
    )
    logging.basicConfig(handlers=[handler], level=settings.level.upper(), force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def to_json(line: object, default: Callable[[Any], Any]) -> bytes:
    """A line as JSON. `default` shows what JSON has no words for."""
    try:
        return orjson.dumps(line, default, _AS_JSON)
    except TypeError:  # text that is no Unicode, a number beyond 64 bits: no line is lost for it
        return json.dumps(line, default=default).encode()


def mask_numbers(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: no telephone number leaves in full."""
    for key, value in event.items():
        if isinstance(value, str) and _DIGITS.search(value) and key != "timestamp":
            event[key] = _PHONE.sub(lambda found: mask(found[1] or found[2]), value)
    return event
