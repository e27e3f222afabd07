"""How the program speaks to its operator: structured lines, phone numbers masked.

Every line goes to standard error. No module prints, and none logs bodies or secrets.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from huibo.config import Log
from huibo.numbers import mask

# E.164, the wire's form, and bare national numbers, also between Chinese characters; call ids and times must
# not look like these
_PHONE = re.compile(r"(?<![\w-])(?:\+?86|0086)?(0\d{9,11}|1[3-9]\d{9})(?![\w-])|(\+\d{8,15})", re.ASCII)


def configure(settings: Log) -> None:
    """Set up structlog, and the standard logging of libraries through it."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,  # text before the masking, not after it
    ]
    if settings.mask:
        shared.append(mask_numbers)
    last: Any = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if settings.format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[*shared, last],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),  # by way of logging it costs twice as much
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.level.upper())),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    logging.basicConfig(handlers=[handler], level=settings.level.upper(), force=True)
    logging.getLogger("uvicorn.access").disabled = True  # one line a request is the router's business
    logging.getLogger("alembic").setLevel(logging.WARNING)


def mask_numbers(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: no telephone number leaves in full."""
    for key, value in event.items():
        if isinstance(value, str) and key != "timestamp":
            event[key] = _PHONE.sub(lambda found: mask(found[1] or found[2]), value)
    return event
