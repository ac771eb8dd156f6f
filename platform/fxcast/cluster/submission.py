"""Submit a job to a cluster so that a repeated submit is harmless, follow it, and pass on its exit code.

A job is known by its name and its command: `nightly-train-3f2a91c4`, then `…-2` for a second attempt. Ray refuses a submission id
that it knows, so that of two submits at the same moment one starts the job and the other one follows it.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import aiohttp
import ray
import yaml
from ray.dashboard.modules.dashboard_sdk import SubmissionClient
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from fxcast.cluster.versions import SOURCE, local_versions
from fxcast.errors import BadSetting, BadSetup, Conflict, Unavailable

_FAILED = 1
_INTERRUPTED = 130
_SIGNALLED = 128  # + the signal's number, as shells report it
_LOST_S = 60.0  # how long a dashboard that is gone is looked for
_NO_AGENT = "No available agent"  # in what Ray's dashboard says while its agent on the head is not there

_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSPHRASE|CREDENTIAL|WEBHOOK|ALERT|(^|_)KEY(_|$)")
_ASSIGNMENT = re.compile(r"(?:--)?([A-Za-z][\w.-]*)=(.+)", re.DOTALL)
_SAID_IN_URL = re.compile(r"[?&](password|sslpassword|secret_key|token)=", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variables:
    """Which of the submitter's settings go with a job.

    Attributes:
        passed: FXCAST_ variables and their values; the dashboard shows them.
        kept: Names of those that hold a secret; the job takes them from the environment of the cluster's nodes.
    """

    passed: dict[str, str]
    kept: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What is to run.

    Attributes:
        name: A person's name for it.
        arguments: The command's words.
        runtime_env: Ray's, with an absolute `working_dir`.
        by: Who asked for it, if that is kept with the job.
    """

    name: str
    arguments: tuple[str, ...]
    runtime_env: dict[str, Any]
    by: str | None = None

    @property
    def command(self) -> str:
        """The command as a shell takes it."""
        return shlex.join(self.arguments)

    @property
    def id(self) -> str:
        """The submission id of the first attempt."""
        return f"{self.name}-{hashlib.sha256(self.command.encode()).hexdigest()[:8]}"

    def attempt_id(self, number: int) -> str:
        """Return the submission id of an attempt, counted from 1."""
        return self.id if number == 1 else f"{self.id}-{number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A job on the cluster.

    Attributes:
        is_new: Whether it was started now; else it was there.
        other_code: Whether what was there ran another fxcast than the submitter's.
    """

    id: str
    is_new: bool
    status: JobStatus
    other_code: bool = False


def split_variables(environment: Mapping[str, str]) -> Variables:
    """Tell the settings that may be shown from the secrets."""
    ours = {name: value for name, value in environment.items() if name.startswith("FXCAST_")}
    kept = tuple(sorted(name for name, value in ours.items() if _is_secret(name, value)))
    return Variables(passed={name: value for name, value in ours.items() if name not in kept}, kept=kept)


def require_no_secret(arguments: Sequence[str]) -> None:
    """Refuse a command that holds a secret: the dashboard and the logs show it to everybody who may look.

    Raises:
        BadSetting: Names the option, never the value.
    """
    for position, argument in enumerate(arguments):
        assigned = _ASSIGNMENT.fullmatch(argument)
        name, value = (assigned[1], assigned[2]) if assigned else (arguments[position - 1] if position else "", argument)
        is_variable = assigned is not None and not argument.startswith("--")
        if _has_password(value) or (is_variable and _is_secret(name.upper(), value)):
            raise BadSetting(
                f"the command holds a secret at {name or 'its first word'}, and the cluster's dashboard would show it; set it in "
                "the environment of the cluster's nodes instead, as FXCAST_DATABASE_URL or FXCAST_OANDA_TOKEN"
            )


def read_runtime_env(path: Path, variables: Mapping[str, str], working_dir: Path) -> dict[str, Any]:
    """Return Ray's runtime environment from a YAML file, with a working directory that does not depend on where one stands.

    Raises:
        BadSetting: If the file is missing or no mapping, or holds a secret among its variables.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise BadSetting(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise BadSetting(f"{path}: expected keys and values, found {type(content).__name__}")
    runtime_env = cast("dict[str, Any]", content)
    written = {str(name): str(value) for name, value in (runtime_env.get("env_vars") or {}).items()}
    for name, value in written.items():
        if _is_secret(name, value):
            raise BadSetting(f"{path}: env_vars.{name} is a secret, which the dashboard would show; set it on the cluster's nodes")
    folder = str(runtime_env.get("working_dir", "."))
    if "://" not in folder:
        folder = str((working_dir / folder).resolve())
    return runtime_env | {"working_dir": folder, "env_vars": {**written, **variables}}


class _BoundedClient(JobSubmissionClient):
    """A client of this very address that waits so long at most for each answer.

    Ray's own waits for ever, and goes to RAY_ADDRESS, if that is set, in place of the address that it is given.
    """

    def __init__(self, address: str, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._client_ray_version = ray.__version__
        SubmissionClient.__init__(self, address)
        self._check_connection_and_version(min_version="2.0")

    def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:  # pyright: ignore[reportImplicitOverride]  # noqa: ANN401
        return super()._do_request(method, endpoint, timeout=self._timeout_s, **options)


def connect(address: str, *, timeout_s: float | None = None) -> JobSubmissionClient:
    """Return a client of the cluster whose dashboard is at an address.

    Args:
        address: Of the dashboard.
        timeout_s: How long a request waits for its answer, to fail then with an OSError; by default as long as it takes.

    Raises:
        BadSetup: If none answers, or it refuses the token.
    """
    try:
        return JobSubmissionClient(address) if timeout_s is None else _BoundedClient(address, timeout_s)
    except AuthenticationError as error:
        raise BadSetup(
            f"the cluster at {address} refuses the token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN: {error.message}"
        ) from None
    except (OSError, RuntimeError) as error:
        raise BadSetup(
            f"no cluster answers at {address} ({error}); open a tunnel to its dashboard (ray dashboard cluster.yaml), or name it "
            "with --address"
        ) from None


def submit_once(client: JobSubmissionClient, submission: Submission, *, again: bool, patience_s: float = _LOST_S) -> Submitted:
    """Start a job, unless it runs or has succeeded; one that failed or was stopped is started anew as the next attempt.

    Args:
        client: From `connect`.
        submission: What is to run.
        again: Start it anew although it has succeeded.
        patience_s: How long a head that takes no jobs is asked again.

    Raises:
        Conflict: If it is to start again while it runs.
        BadSetup: If the cluster refuses the job.
        Unavailable: If the head takes no jobs for so long.
    """
    source = local_versions()[SOURCE]
    deadline = time.monotonic() + patience_s
    told = {"name": submission.name, "source": source, **({} if submission.by is None else {"by": submission.by})}
    while True:
        number, latest = latest_attempt(client, submission)
        if latest is not None and not latest.status.is_terminal() and again:
            raise Conflict(f"job {latest.submission_id} runs; stop it first, or leave out --again to follow it")
        if latest is not None and (not latest.status.is_terminal() or (latest.status is JobStatus.SUCCEEDED and not again)):
            other = (latest.metadata or {}).get("source") != source
            return Submitted(id=str(latest.submission_id), is_new=False, status=latest.status, other_code=other)
        wanted = submission.attempt_id(number + 1)
        try:
            client.submit_job(
                entrypoint=submission.command,
                submission_id=wanted,
                runtime_env=submission.runtime_env,
                metadata=dict(told),
            )
        except (RuntimeError, ValueError) as error:
            if "already exists" in str(error):
                again = False  # another submit came first, of what this one wanted
            elif _NO_AGENT not in str(error):
                raise BadSetup(f"the cluster does not take job {wanted}: {_last_line(error)}") from None
            elif time.monotonic() > deadline:
                raise Unavailable(
                    f"the head of the cluster has no agent that takes jobs for {patience_s:.0f} s; if another Ray runs on that "
                    "machine, it holds the port: start one of them with another --dashboard-agent-listen-port"
                ) from None
            time.sleep(1.0)  # a head announces neither its agent nor another's submit: it is asked again
            continue
        return Submitted(id=wanted, is_new=True, status=JobStatus.PENDING)


def latest_attempt(client: JobSubmissionClient, submission: Submission) -> tuple[int, JobDetails | None]:
    """Return the number of the last attempt, 0 if there is none, and how it is."""
    attempts = re.compile(rf"{re.escape(submission.id)}(?:-(\d+))?")
    latest: tuple[int, JobDetails | None] = 0, None
    for job in client.list_jobs():
        match = attempts.fullmatch(job.submission_id or "")
        if match is not None and int(match[1] or 1) > latest[0]:
            latest = int(match[1] or 1), job
    return latest


def follow(client: JobSubmissionClient, submission_id: str, write: Callable[[str], object]) -> JobDetails:
    """Write a job's log as it grows, from its beginning, until the job has ended; return how it did.

    Raises:
        Unavailable: If the cluster does not answer for a minute; the job may go on.
    """
    log = _Log(write=write)
    lost_at: float | None = None
    while True:
        try:
            asyncio.run(_tail(client, submission_id, log))
            details = client.get_job_info(submission_id)
            if details.status.is_terminal():
                return details
            lost_at = None
        except (OSError, RuntimeError, aiohttp.ClientError) as error:
            lost_at = time.monotonic() if lost_at is None else lost_at
            if time.monotonic() - lost_at > _LOST_S:
                raise Unavailable(
                    f"the cluster does not answer for {_LOST_S:.0f} s ({error}); job {submission_id} may go on"
                ) from error
        time.sleep(1.0)  # the log's end comes before the job's, and a cluster that is gone announces nothing: asked again


def exit_code_of(details: JobDetails) -> int:
    """Return the exit code of a job that has ended: its own; 130 if it was stopped, 128 + N if signal N ended it."""
    if details.status is JobStatus.SUCCEEDED:
        return 0
    if details.status is JobStatus.STOPPED:
        return _INTERRUPTED
    code = details.driver_exit_code
    if not code:  # it never ran, or died with its node
        return _FAILED
    return _SIGNALLED - code if code < 0 else code


@dataclass(slots=True, kw_only=True)
class _Log:
    """A log that is written as it comes, from where it was left when the connection broke."""

    write: Callable[[str], object]
    written: int = 0

    def take(self, text: str, start: int) -> None:
        """Write of a text, which begins at some character of the log, what is new."""
        new = text[max(0, self.written - start) :]
        if new:
            self.write(new)
            self.written = start + len(text)


async def _tail(client: JobSubmissionClient, submission_id: str, log: _Log) -> None:
    """Read a log from its beginning until the job ends or the connection breaks."""
    start = 0
    async for text in client.tail_job_logs(submission_id):
        log.take(text, start)
        start += len(text)


def _is_secret(name: str, value: str) -> bool:
    if name.endswith("DATABASE_URL"):
        return _has_password(value)
    return bool(_SECRET_NAME.search(name)) or _has_password(value)


def _has_password(value: str) -> bool:
    if "://" not in value:
        return False
    try:
        return urlsplit(value).password is not None or bool(_SAID_IN_URL.search(value))
    except ValueError:
        return False  # no URL


def _last_line(error: Exception) -> str:
    """Return what the cluster says; it sends a traceback along."""
    return str(error).strip().rstrip(".").splitlines()[-1]
