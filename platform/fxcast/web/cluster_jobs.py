"""What fxcast runs as jobs of a Ray cluster: list, start and stop them through its dashboard, which may be gone at any time."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from fxcast.cluster.local import REPOSITORY
from fxcast.cluster.submission import (
    Submission,
    Submitted,
    Variables,
    connect,
    latest_attempt,
    read_runtime_env,
    require_no_secret,
    split_variables,
    submit_once,
)
from fxcast.errors import BadSetup, Conflict, NotFound, Unavailable
from fxcast.logs import scrubber

_LOOK_S = 3.0  # for an answer to a look: the page is drawn meanwhile without it
_ACT_S = 20.0  # for one that starts or stops a job, with an upload of the code; below Serve's request_timeout_s
_LONGEST_LINE = 240
_REMEMBERED = 500

# Of the page alone, and no settings of jobs.
_OF_THE_PAGE = re.compile(r"FXCAST_(WEB_.*|TOKEN|TOKENS_DATABASE_URL|METRICS_DATABASE_URL|PREDICTIONS_DATABASE_URL|LOG_FORMAT)")
_PROGRESS = re.compile(r"\d[\d,]*/\d[\d,]* +\d+:\d\d:\d\d +left +\S+")  # as fxcast.terminal prints it
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterJob:
    """A job that fxcast submitted.

    Attributes:
        id: Submission id.
        state: pending, running, stopped, succeeded or failed.
        by: Who started it from the page; None for one that jobs.submit started.
        said: The newest line of progress in its log, else the last line.
    """

    id: str
    name: str
    command: str
    state: str
    by: str | None
    begun_at: datetime | None
    ended_at: datetime | None
    said: str

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return JobStatus(self.state.upper()).is_terminal()

    def took_s(self, now: datetime) -> float | None:
        """Return how long it took, or has taken so far."""
        return None if self.begun_at is None else max(((self.ended_at or now) - self.begun_at).total_seconds(), 0.0)


class ClusterJobs:
    """The jobs of one cluster.

    Args:
        address: Of its dashboard.
        home: The jobs' FXCAST_HOME, from which relative paths of theirs are meant.
        store: Root of the candle store, as the page reads it.
        database_url: The page's.
    """

    def __init__(self, address: str, *, home: str, store: str, database_url: str) -> None:
        self.address = address
        self.home = home
        places = {"FXCAST_HOME": home, "FXCAST_STORE": store, "FXCAST_DATABASE_URL": database_url}
        ours = {name: value for name, value in os.environ.items() if not _OF_THE_PAGE.fullmatch(name)}
        self.variables: Variables = split_variables({**ours, **places})
        self._scrub = scrubber()
        self._last_lines: dict[str, str] = {}  # of jobs that have ended, whose logs grow no more

    def listed(self, *, limit: int) -> tuple[ClusterJob, ...]:
        """Return the newest jobs that fxcast submitted, the newest first.

        Raises:
            Unavailable: If the dashboard does not answer in time.
            BadSetup: If it refuses the token.
        """
        with self._asking(_LOOK_S) as client:
            ours = [job for job in client.list_jobs() if job.submission_id and "source" in (job.metadata or {})]
            ours.sort(key=lambda job: job.start_time or 0, reverse=True)
            return tuple(self._shown(client, job) for job in ours[:limit])

    def latest(self, arguments: Sequence[str], *, name: str) -> ClusterJob | None:
        """Return the last attempt at a command under a name, None if there was none.

        Raises:
            Unavailable: If the dashboard does not answer in time.
            BadSetup: If it refuses the token.
        """
        submission = Submission(name=name, arguments=tuple(arguments), runtime_env={})
        with self._asking(_LOOK_S) as client:
            _, job = latest_attempt(client, submission)
            return None if job is None else self._shown(client, job)

    def start(self, arguments: Sequence[str], *, name: str, by: str, again: bool) -> Submitted:
        """Start a command, once: while it runs, another start of it changes nothing.

        Args:
            arguments: Its words.
            name: In small letters, digits and hyphens.
            by: Who asks for it; kept with the job.
            again: Start it although it has succeeded before.

        Raises:
            BadSetting: If the command holds a secret.
            BadSetup: If the cluster refuses it.
            Unavailable: If the dashboard does not answer in time; it may have taken the job.
        """
        require_no_secret(arguments)
        runtime_env = read_runtime_env(REPOSITORY / "jobs" / "runtime_env.yaml", self.variables.passed, REPOSITORY)
        submission = Submission(name=name, arguments=tuple(arguments), runtime_env=runtime_env, by=by)
        with self._asking(_ACT_S) as client:
            # Only now, for a new client sets it too: of each upload Ray would tell which file's rules it follows.
            for name in ("ray", "ray.dashboard.modules.job.sdk"):
                logging.getLogger(name).setLevel(logging.ERROR)
            try:
                job = submit_once(client, submission, again=again, patience_s=_ACT_S)
            except Conflict:  # a double click: the first one has started it anew
                job = submit_once(client, submission, again=False, patience_s=_ACT_S)
        log.info("run started" if job.is_new else "run was there", job=job.id, by=by, command=submission.command)
        return job

    def stop(self, job_id: str, *, by: str) -> bool:
        """Ask a job to end; Ray kills it if it does not within some seconds. Return whether it ran.

        Raises:
            NotFound: If fxcast submitted no such job.
            Unavailable: If the dashboard does not answer in time.
            BadSetup: If it refuses the token.
        """
        with self._asking(_ACT_S) as client:
            if not any(job.submission_id == job_id and "source" in (job.metadata or {}) for job in client.list_jobs()):
                raise NotFound("job", job_id, "a job that fxcast submitted to this cluster")
            ran = client.stop_job(job_id)
        log.info("run stopped" if ran else "run had ended", job=job_id, by=by)
        return ran

    @contextmanager
    def _asking(self, timeout_s: float) -> Generator[JobSubmissionClient]:
        """Yield a client; what it raises because nothing answers, or something else does, becomes ours."""
        try:
            client = connect(self.address, timeout_s=timeout_s)
        except BadSetup as error:
            if isinstance(error.__context__, AuthenticationError):
                raise
            raise self._gone(error.__context__ or error) from None
        except (ValueError, KeyError) as error:  # something else answers there
            raise self._gone(error) from None
        try:
            yield client
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise self._gone(error) from None

    def _gone(self, error: BaseException) -> Unavailable:
        return Unavailable(f"the cluster's dashboard at {self.address} does not answer as it should: {_last_line(error)}")

    def _shown(self, client: JobSubmissionClient, job: JobDetails) -> ClusterJob:
        told: Mapping[str, str] = job.metadata or {}
        job_id = str(job.submission_id)
        return ClusterJob(
            id=job_id,
            name=told.get("name", job_id),
            command=self._scrub(job.entrypoint),
            state=str(job.status.value).lower(),
            by=told.get("by"),
            begun_at=_moment(job.start_time),
            ended_at=_moment(job.end_time),
            said=self._said(client, job_id, job),
        )

    def _said(self, client: JobSubmissionClient, job_id: str, job: JobDetails) -> str:
        if (known := self._last_lines.get(job_id)) is not None:
            return known
        if job.status is JobStatus.PENDING:
            return ""
        try:
            text = client.get_job_logs(job_id)
        except RuntimeError as error:  # of a node that is gone
            return f"its log can't be read: {_last_line(error)}"
        said = newest_line(self._scrub(text), is_running=not job.status.is_terminal())
        if not said and job.status is JobStatus.FAILED:
            said = newest_line(self._scrub(job.message or ""), is_running=False)
        if job.status.is_terminal():
            self._last_lines[job_id] = said
            while len(self._last_lines) > _REMEMBERED:
                self._last_lines.pop(next(iter(self._last_lines)), None)
        return said


def newest_line(text: str, *, is_running: bool) -> str:
    """Return the newest line of progress of a log while it grows, else its last line; empty if there is none."""
    lines = [line.strip() for line in _ESCAPES.sub("", text).replace("\r", "\n").splitlines() if line.strip()]
    progress = [line for line in lines if _PROGRESS.search(line)] if is_running else []
    newest = (progress or lines or [""])[-1]
    return newest if len(newest) <= _LONGEST_LINE else f"{newest[:_LONGEST_LINE]}…"


def _last_line(error: BaseException) -> str:
    """Return what an error says; Ray's dashboard sends a traceback along."""
    return (str(error).strip().rstrip(".").splitlines() or [type(error).__name__])[-1]


def _moment(milliseconds: int | None) -> datetime | None:
    return None if not milliseconds else datetime.fromtimestamp(milliseconds / 1000, UTC)
