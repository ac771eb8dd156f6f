"""What fxcast runs as jobs of a Ray cluster: list, start and stop them through its dashboard, which may be gone at any time."""

from __future__ import annotations

import logging
import math
import os
import re
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
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
_SHARED_S = 4.0  # how long an answer, or that there was none, is told to other pages too; below the pages' own tick
_LOGS_S = 3.0  # for the logs of a list, begun after which none is read
_LOG_EVERY_S = 15.0  # a log is sent whole, and may be long
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
        said: The newest line of progress in its log, else the last line; of a job that runs, some seconds old. Empty in `latest`.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    text: str
    status: JobStatus
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    limit: int
    found: tuple[ClusterJob, ...] | Unavailable
    until: float


class ClusterJobs:
    """The jobs of one cluster.

    Args:
        address: Of its dashboard.
        home: The jobs' FXCAST_HOME, from which relative paths of theirs are meant.
        store: Root of the candle store, as the page reads it.
        database_url: The page's.
        clock: Tells seconds.
    """

    def __init__(
        self, address: str, *, home: str, store: str, database_url: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.address = address
        self.home = home
        places = {"FXCAST_HOME": home, "FXCAST_STORE": store, "FXCAST_DATABASE_URL": database_url}
        ours = {name: value for name, value in os.environ.items() if not _OF_THE_PAGE.fullmatch(name)}
        self.variables: Variables = split_variables({**ours, **places})
        self._scrub = scrubber()
        self._clock = clock
        self._looking = threading.Lock()
        self._answer: _Answer | None = None
        self._acts = 0
        # By id and start: on a cluster that was made anew an id may be another job's.
        self._said: dict[tuple[str, int | None], _Said] = {}

    def listed(self, *, limit: int) -> tuple[ClusterJob, ...]:
        """Return the newest jobs that fxcast submitted, the newest first; who asks at the same time gets the same answer.

        Raises:
            Unavailable: If the dashboard does not answer in time.
            BadSetup: If it refuses the token.
        """
        with self._looking:
            answer = self._answer
            if answer is None or answer.limit != limit or self._clock() >= answer.until:
                acts = self._acts
                found = self._look(limit)
                answer = _Answer(limit=limit, found=found, until=self._clock() + _SHARED_S)
                self._answer = answer if acts == self._acts else None  # a job was started or stopped meanwhile
        if isinstance(answer.found, Unavailable):
            raise Unavailable(str(answer.found))
        return answer.found

    def _look(self, limit: int) -> tuple[ClusterJob, ...] | Unavailable:
        try:
            return self._newest(limit)
        except Unavailable as error:
            return error

    def _newest(self, limit: int) -> tuple[ClusterJob, ...]:
        with self._asking(_LOOK_S) as client:
            ours = [job for job in client.list_jobs() if job.submission_id and "source" in (job.metadata or {})]
            ours.sort(key=lambda job: job.start_time or 0, reverse=True)
            until = self._clock() + _LOGS_S
            return tuple(self._shown(job, said=self._last_said(client, job, until)) for job in ours[:limit])

    def latest(self, arguments: Sequence[str], *, name: str) -> ClusterJob | None:
        """Return the last attempt at a command under a name, None if there was none.

        Raises:
            Unavailable: If the dashboard does not answer in time.
            BadSetup: If it refuses the token.
        """
        submission = Submission(name=name, arguments=tuple(arguments), runtime_env={})
        with self._asking(_LOOK_S) as client:
            _, job = latest_attempt(client, submission)
            return None if job is None else self._shown(job)

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
            finally:
                self._forget_answer()
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
            try:
                ran = client.stop_job(job_id)
            finally:
                self._forget_answer()
        log.info("run stopped" if ran else "run had ended", job=job_id, by=by)
        return ran

    def _forget_answer(self) -> None:
        self._acts += 1
        self._answer = None

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

    def _shown(self, job: JobDetails, *, said: str = "") -> ClusterJob:
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
            said=said,
        )

    def _last_said(self, client: JobSubmissionClient, job: JobDetails, until: float) -> str:
        if job.status is JobStatus.PENDING:
            return ""
        key, now = (str(job.submission_id), job.start_time), self._clock()
        known = self._said.get(key)
        if known is not None and known.status is job.status and now < known.until:
            return known.text
        if now >= until:
            return "its log was not read: the cluster took too long for others"
        said, is_read = self._read_log(client, job)
        lasts_s = math.inf if is_read and job.status.is_terminal() else _LOG_EVERY_S
        self._said[key] = _Said(text=said, status=job.status, until=self._clock() + lasts_s)
        while len(self._said) > _REMEMBERED:
            del self._said[next(iter(self._said))]
        return said

    def _read_log(self, client: JobSubmissionClient, job: JobDetails) -> tuple[str, bool]:
        """Return what a job said last, and whether its log could be read."""
        try:
            text = client.get_job_logs(str(job.submission_id))
        except (OSError, RuntimeError) as error:  # of a node that is gone, or one that is slow
            return f"its log can't be read: {_last_line(error)}", False
        said = newest_line(self._scrub(text), is_running=not job.status.is_terminal())
        if not said and job.status is JobStatus.FAILED:
            said = newest_line(self._scrub(job.message or ""), is_running=False)
        return said, True


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
