"""How processes log: structured, for people or for machines, on stderr; each line with the request, the run, the node and the worker it is about.

Who works on behalf of something binds it to its thread (`structlog.contextvars`); what holds for the whole process is named here.
"""

import sys
from typing import Any

import structlog

_process: dict[str, str] = {}


def name_process(**names: str) -> None:
    """What every line of this process says from now on: `worker=…`. An empty name is said no more."""
    _process.update(names)


def add_process(logger: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """structlog's processor for `name_process`."""
    for name, value in _process.items():
        if value:
            event.setdefault(name, value)
    return event


def configure(level: str, form: str) -> dict[str, Any]:
    """Set structlog up, and return Django's LOGGING. `form`: `json` or `console`."""
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        add_process,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Any = structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[*processors, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structured": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": processors,
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "django.server": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
            # What is said of a request is in its one line; what failed in it is an ERROR here, with the traceback.
            "django.request": {"level": "ERROR"},
            "daphne": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
            "sqlglot": {"handlers": ["stderr"], "level": "ERROR", "propagate": False},
        },
    }
