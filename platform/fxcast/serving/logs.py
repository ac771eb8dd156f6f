"""Where a replica's lines of the log go: into Serve's own log of it, each with the id of the request that it is about."""

from __future__ import annotations

import logging

import structlog

_SERVE = "ray.serve"  # the logger that Serve documents for deployments; it adds time, level, replica and the request's id


def log_to_serve() -> None:
    """Send what this process logs to Serve's log of its replica: logs/serve/replica_*.log in the folder of Ray's session.

    Without it the lines go to the standard output, which Ray keeps apart in worker-*.out, under no name that an operator knows.
    """
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.dev.ConsoleRenderer(pad_event_to=0, colors=False)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: logging.getLogger(_SERVE),
    )
