"""Logs: one JSON line per decision on stderr, ours and the libraries', with the ids of the trace they belong to."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog
from opentelemetry import trace

REPEAT_SECONDS = 30.0
REPEATED_MESSAGES_MAX = 200


def setup_logs(service: str, log_level: str) -> None:
    """Bring structlog and the libraries' own loggers to the same JSON lines."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[log_level.upper()]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(default=str),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(log_level.upper())
    logging.getLogger("aiokafka").setLevel("ERROR")
    handler.addFilter(_Repetitions("aiokafka", "opentelemetry"))
    logging.getLogger("uvicorn").setLevel("WARNING")
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel("WARNING")  # they log every URL, and a URL may carry a token
    structlog.contextvars.bind_contextvars(service=service)


class _Repetitions(logging.Filter):
    """Lets one line of a library through in REPEAT_SECONDS for each message it has.

    While a broker is away aiokafka says the same for every attempt of every task: thousands of lines a minute. The
    exporter of spans says it for every batch.
    """

    def __init__(self, *libraries: str) -> None:
        super().__init__()
        self._libraries = frozenset(libraries)
        self._said_at: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether the line is new enough to be worth reading."""
        if record.name.partition(".")[0] not in self._libraries:
            return True
        said = (record.name, str(record.msg)[:100])
        if record.created - self._said_at.get(said, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return False
        if len(self._said_at) >= REPEATED_MESSAGES_MAX:
            self._said_at.clear()
        self._said_at[said] = record.created
        return True


def _add_trace(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the ids by which a line is found from a trace and a trace from a line."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = f"{context.trace_id:032x}"
        event["span_id"] = f"{context.span_id:016x}"
    return event
