"""How a process logs: one line an event, readable or JSON, with the ids bound to what it is about and without secrets.

Environment:
    FXCAST_LOG_FORMAT  text or json; by default json in a submitted job and in actors, text elsewhere
    FXCAST_LOG_LEVEL   debug, info (the default), warning, error or critical
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from functools import partial
from typing import Any, Literal, cast
from urllib.parse import unquote

import structlog
from structlog.typing import EventDict, Processor

from fxcast.errors import BadSetting

FORMAT_VARIABLE = "FXCAST_LOG_FORMAT"
LEVEL_VARIABLE = "FXCAST_LOG_LEVEL"
REMOVED = "[removed]"

Format = Literal["text", "json"]
Scrub = Callable[[str], str]

_LEVELS = ("debug", "info", "warning", "error", "critical")
_JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set in a job that was submitted
_SECRET_NAME = re.compile(r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|API_KEY|WEB_KEY|ACCESS_KEY|ACCESS_KEY_ID|ALERT_URL)$")
_SECRET_KEY = re.compile(r"(^|[_-])(token|secret|password|passwd|authorization|api_?key|access_key|credentials?)$", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(?P<begin>[a-z][a-z0-9+.-]*://[^\s:/@'\"]*:)[^\s/'\"]+@", re.IGNORECASE)
_BEARER = re.compile(r"(?P<begin>\b(?:bearer|basic)\s+)[^\s'\",]{8,}", re.IGNORECASE)
_SHORTEST = 6  # characters of a secret: a shorter one would be found in ordinary words


def configure(default: Format = "text") -> None:
    """Set up logging, unless this process has done so (or was told otherwise by who runs it): lines go to the standard error.

    Args:
        default: The format where the environment names none.

    Raises:
        BadSetting: If FXCAST_LOG_FORMAT or FXCAST_LOG_LEVEL is none of those allowed.
    """
    if structlog.is_configured():
        return
    level, scrub = log_level(), scrubber()
    renderer = _renderer(log_format("json" if _JOB_VARIABLE in os.environ else default))
    structlog.configure(
        processors=[*processors(scrub), renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_StandardError,
        cache_logger_on_first_use=False,  # a backtest in this process quietens them later
    )
    # Libraries are heard from warnings on: at INFO some log every address that they call.
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, _ToStandardError)]
    root.addHandler(_ToStandardError(library_formatter(scrub, renderer)))
    root.setLevel(level if level == logging.DEBUG else max(level, logging.WARNING))


def configure_actor() -> None:
    """Set up logging in an actor's process, whatever a task has set up there before: a file is all that reads it, so JSON.

    Raises:
        BadSetting: As `configure`.
    """
    structlog.reset_defaults()
    configure("json")


def log_format(default: Format) -> Format:
    """Return the format that the environment asks for, or a default.

    Raises:
        BadSetting: If FXCAST_LOG_FORMAT is neither text nor json.
    """
    found = os.environ.get(FORMAT_VARIABLE, "").strip().lower() or default
    if found not in ("text", "json"):
        raise BadSetting(f"{FORMAT_VARIABLE}: found {found!r}; allowed: text, json")
    return found


def log_level() -> int:
    """Return the level below which nothing is logged.

    Raises:
        BadSetting: If FXCAST_LOG_LEVEL is no level.
    """
    found = os.environ.get(LEVEL_VARIABLE, "").strip().lower() or "info"
    if found not in _LEVELS:
        raise BadSetting(f"{LEVEL_VARIABLE}: found {found!r}; allowed: {', '.join(_LEVELS)}")
    return logging.getLevelNamesMapping()[found.upper()]


def processors(scrub: Scrub) -> list[Processor]:
    """Return what makes an event ready to be rendered: the ids that are bound, level, logger and time; and no secrets."""
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        without_secrets(scrub),
    ]


def library_formatter(scrub: Scrub, renderer: Processor, *, first: Processor | None = None) -> logging.Formatter:
    """Return what formats the records of libraries as our events are.

    Args:
        first: Sees each event, with its record under `_record`, before it is rendered.
    """
    last: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=processors(scrub), processors=last if first is None else [first, *last]
    )


def json_renderer() -> Processor:
    """Return what renders an event as one line of JSON, beginning with time, level, logger and event."""
    return _as_json


def scrubber(environment: Mapping[str, str] | None = None) -> Scrub:
    """Return a function that removes from a text what may not be logged.

    That are the values of environment variables whose names say that they are secret (…TOKEN, …SECRET, …PASSWORD, …ACCESS_KEY,
    FXCAST_ALERT_URL), from six characters on; passwords inside URLs, those of the environment also where they stand alone; and
    what follows Bearer.
    """
    secrets = _secrets(os.environ if environment is None else environment)
    known = re.compile("|".join(map(re.escape, secrets))) if secrets else None

    def scrub(text: str) -> str:
        if known is not None:
            text = known.sub(REMOVED, text)
        if "://" in text:
            text = _URL_PASSWORD.sub(rf"\g<begin>{REMOVED}@", text)
        return _BEARER.sub(rf"\g<begin>{REMOVED}", text)

    return scrub


def _secrets(environment: Mapping[str, str]) -> list[str]:
    """Return the secrets of an environment as they are and as a URL writes them, the longest first: one may hold another."""
    found = set[str]()
    for name, value in environment.items():
        if _SECRET_NAME.search(name):
            found.add(value.strip())
        password = re.search(r"://[^\s:/@]*:(?P<password>[^\s/]+)@", value) if name.endswith("_URL") else None
        if password is not None:
            found |= {password["password"], unquote(password["password"])}
    return sorted((each for each in found if len(each) >= _SHORTEST), key=lambda each: (-len(each), each))


def without_secrets(scrub: Scrub) -> Processor:
    """Return what removes secrets from an event: by what they are (`scrubber`), and by the key that they are under."""
    return partial(_without_secrets, scrub)


def _without_secrets(scrub: Scrub, _logger: object, _method: str, event: EventDict) -> EventDict:
    return {key: event[key] if key.startswith("_") else _clean(scrub, key, event[key]) for key in event}


def _clean(scrub: Scrub, key: str, value: object) -> object:
    """Return a value in plain types, without secrets; what is none of those is shown as its text."""
    if value is None or isinstance(value, bool) or value == "":
        return value
    if _SECRET_KEY.search(key):
        return REMOVED
    match value:
        case int() | float():
            return value
        case str():
            return scrub(value)
        case Mapping():
            items = cast("Mapping[Any, Any]", value).items()
            return {scrub(str(name)): _clean(scrub, str(name), each) for name, each in items}
        case Sequence() | set() | frozenset() if not isinstance(value, (bytes, bytearray)):
            return [_clean(scrub, key, each) for each in cast("Iterable[object]", value)]
        case _:
            return scrub(str(value))


def _renderer(wanted: Format) -> Processor:
    if wanted == "json":
        return _as_json
    # Without the local variables of a traceback: a password may be among them.
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)


_render_json = structlog.processors.JSONRenderer()
_FIRST = ("timestamp", "level", "logger", "event")


def _as_json(logger: object, method: str, event: MutableMapping[str, Any]) -> str | bytes:
    ordered = {key: event[key] for key in _FIRST if key in event}
    return _render_json(logger, method, ordered | dict(event))


class _StandardError:
    """A logger with a name that writes to what is the standard error at that moment."""

    def __init__(self, name: str = "fxcast", *_: object) -> None:
        self.name = name

    def write(self, line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    debug = info = warning = error = critical = msg = log = write


class _ToStandardError(logging.Handler):
    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:  # pyright: ignore[reportImplicitOverride]
        sys.stderr.write(f"{self.format(record)}\n")
        sys.stderr.flush()
