"""Run a job on a cluster: python -m jobs.submit --name nightly-train -- python -m jobs.train --config configs/train.yaml."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field
from ray.job_submission import JobStatus, JobSubmissionClient

from fxcast.cluster.local import REPOSITORY
from fxcast.cluster.submission import (
    Submission,
    Submitted,
    connect,
    exit_code_of,
    follow,
    read_runtime_env,
    require_no_secret,
    split_variables,
    submit_once,
)
from fxcast.config import JobSettings
from fxcast.errors import BadSetting
from jobs.entry import INTERRUPTED, run


class SubmitSettings(JobSettings):
    """Run a command on a cluster, in a copy of this checkout, and follow it; its exit code is the job's.

    After the options comes -- and the command. The same name and command are the same job: a repeated submit follows the one that
    runs, or shows the one that has succeeded; one that has failed is started anew. FXCAST_ variables of this process go along, but
    for secrets, which the cluster's nodes must have.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,60}$", description="of the job, in small letters, digits and hyphens")
    address: str = Field(
        default_factory=lambda: os.environ.get("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:8265"),
        description="of the cluster's dashboard (RAY_API_SERVER_ADDRESS), by default http://127.0.0.1:8265",
    )
    home: str | None = Field(
        default=None, description="FXCAST_HOME on the cluster, from which relative paths are meant; else that of the nodes"
    )
    runtime_env: Path = Field(default=REPOSITORY / "jobs" / "runtime_env.yaml", description="Ray's runtime environment")
    follow: bool = Field(default=True, description="stay until the job ends and show its log")
    again: bool = Field(default=False, description="run it anew although it has succeeded")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    end = given.index("--") if "--" in given else len(given)
    here = Path.cwd()  # `run` may go to FXCAST_HOME
    return run(lambda: _submit(SubmitSettings.parse(given[:end]), given[end + 1 :], here))


def _submit(settings: SubmitSettings, command: Sequence[str], here: Path) -> int:
    if not command:
        raise BadSetting("no command: found nothing behind --; expected something like -- python -m jobs.train")
    require_no_secret(command)
    variables = split_variables(os.environ)
    if variables.kept:
        _say(f"left to the environment of the cluster's nodes: {', '.join(variables.kept)}")
    passed = variables.passed if settings.home is None else {**variables.passed, "FXCAST_HOME": settings.home}
    submission = Submission(
        name=settings.name,
        arguments=tuple(command),
        runtime_env=read_runtime_env(here / settings.runtime_env, passed, REPOSITORY),
    )
    client = connect(settings.address)
    # Only now, for the client sets it too: of each upload Ray would tell which file's rules it follows.
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.ERROR)  # Ray has given it a level of its own
    job = submit_once(client, submission, again=settings.again)
    _say(_state(job))
    if not settings.follow and not job.status.is_terminal():
        _say(_how_to_go_on(settings.address, job.id))
        return 0
    return _follow(client, settings.address, job)


def _follow(client: JobSubmissionClient, address: str, job: Submitted) -> int:
    try:
        details = follow(client, job.id, _show)
    except KeyboardInterrupt:
        _say(f"\njob {job.id} goes on; {_how_to_go_on(address, job.id)}")
        return INTERRUPTED
    code = exit_code_of(details)
    said = "" if details.status is JobStatus.SUCCEEDED or details.driver_exit_code else f": {details.message}"
    _say(f"job {job.id} {str(details.status).lower()}, exit code {code}{said}")
    return code


def _state(job: Submitted) -> str:
    if job.is_new:
        return f"job {job.id} submitted"
    other = ", with other code than this checkout's" if job.other_code else ""
    if job.status is JobStatus.SUCCEEDED:
        return f"job {job.id} has succeeded before{other}; nothing is submitted (--again runs it anew)"
    return f"job {job.id} runs already{other}; nothing is submitted, it is followed"


def _how_to_go_on(address: str, job_id: str) -> str:
    return f"follow it: ray job logs --address {address} --follow {job_id}; stop it: ray job stop --address {address} {job_id}"


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _say(sentence: str) -> None:
    """Tell a person on standard error: standard output is the job's."""
    sys.stderr.write(f"{sentence}\n")


if __name__ == "__main__":
    sys.exit(main())
