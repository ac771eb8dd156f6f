"""Where a replica's lines of the log go: into Serve's own log of it, each with the id of the request that it is about."""

from __future__ import annotations

import logging
from logging.handlers import MemoryHandler

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict

from fxcast import logs

_SERVE = "ray.serve"  # the logger that Serve documents for deployments; it adds time, level, replica and the request's id
_IDS = ("request_id", "route", "application")  # what Serve knows of the request that a record is about


def log_to_serve() -> None:
    """Send what this process logs to Serve's log of its replica: logs/serve/replica_*.log in the folder of Ray's session.

    Without it the lines go to the standard error, which Ray keeps apart in worker-*.err, under no name that an operator knows.
    With FXCAST_LOG_FORMAT=json each line of that file is JSON, Serve's own lines too. Serve's level binds besides ours.

    Raises:
        BadSetting: If FXCAST_LOG_FORMAT or FXCAST_LOG_LEVEL is none of those allowed.
    """
    scrub, is_json = logs.scrubber(), logs.log_format("text") == "json"
    if is_json:
        processors = [*logs.processors(scrub), ProcessorFormatter.wrap_for_formatter]
    else:
        shown = structlog.dev.ConsoleRenderer(pad_event_to=0, colors=False, exception_formatter=structlog.dev.plain_traceback)
        processors = [structlog.contextvars.merge_contextvars, logs.without_secrets(scrub), shown]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logs.log_level()),
        logger_factory=lambda *name: logging.getLogger(".".join([_SERVE, *name])),
    )
    for handler in logging.getLogger(_SERVE).handlers:
        target = handler.target if isinstance(handler, MemoryHandler) and handler.target is not None else handler
        if isinstance(target.formatter, _Formatter):  # this process has set it up before
            continue
        target.setFormatter(_Formatter(scrub, None if is_json else target.formatter))


class _Formatter(logging.Formatter):
    """Formats what anyone logs in a replica: as JSON, or as Serve does; without secrets."""

    def __init__(self, scrub: logs.Scrub, serves_own: logging.Formatter | None) -> None:
        super().__init__()
        self._scrub = scrub
        self._formatter = serves_own or logs.library_formatter(scrub, logs.json_renderer(), first=_with_ids)

    def format(self, record: logging.LogRecord) -> str:  # pyright: ignore[reportImplicitOverride]
        return self._scrub(self._formatter.format(record))


def _with_ids(_logger: object, _method: str, event: EventDict) -> EventDict:
    record = event["_record"]
    for name in _IDS:
        if getattr(record, name, ""):
            event.setdefault(name, getattr(record, name))
    return event
