"""The jobs of a cluster as the page sees them, over a server on loopback that speaks the cluster's API."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from fxcast.errors import BadSetting, NotFound, Unavailable
from fxcast.web.cluster_jobs import ClusterJobs
from tests.job_api import JobApi, job_api
from tests.webhooks import webhook_server

_COMMAND = ("python", "-m", "jobs.evaluate", "--step-bars=7")


@pytest.fixture
def api() -> Iterator[JobApi]:
    with job_api() as api:
        yield api


def jobs_of(api: JobApi, *, database_url: str = "sqlite:///fx.db") -> ClusterJobs:
    return ClusterJobs(api.url, home="/shared", store="/shared/store", database_url=database_url)


def test_jobs_are_listed_newest_first_with_what_they_said_last(api: JobApi) -> None:
    begun = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
    moment = round(begun.timestamp() * 1000)
    bar = "denoiser ━━ 1,200/4,000 0:01:00 left 0:02:20"
    api.add("old", command="python -m jobs.tune", status="FAILED", log="a\nerror: name: missing\n", start_time=moment - 9000)
    api.jobs["old"]["end_time"] = moment - 4000
    api.add("new", command="python -m jobs.train", status="RUNNING", log=f"{bar}\nnoise\n", metadata={"by": "trader"})
    api.jobs["new"]["start_time"] = moment
    api.add("other", command="python else.py", status="RUNNING")
    api.jobs["other"]["metadata"] = {}
    new, old = jobs_of(api).listed(limit=10)
    assert (new.id, new.state, new.by, new.said, new.is_over) == ("new", "running", "trader", bar, False)
    assert (old.id, old.state, old.by, old.said, old.is_over) == ("old", "failed", None, "error: name: missing", True)
    assert new.took_s(begun + timedelta(seconds=90)) == 90.0
    assert old.took_s(begun) == 5.0
    assert [each.id for each in jobs_of(api).listed(limit=1)] == ["new"]


def test_a_log_that_is_gone_is_said_and_the_others_are_there(api: JobApi) -> None:
    api.add("here", command="python -m jobs.tune", status="RUNNING", log="at work\n")
    api.add("gone", command="python -m jobs.tune", status="RUNNING")
    del api.logs["gone"]
    said = {each.id: each.said for each in jobs_of(api).listed(limit=10)}
    assert said["here"] == "at work"
    assert said["gone"].startswith("its log can't be read: Request failed with status code 404")


def test_a_start_that_is_repeated_starts_one_job_even_where_it_has_succeeded_before(api: JobApi) -> None:
    jobs = jobs_of(api)
    first = jobs.start(_COMMAND, name="evaluate", by="trader", again=False)
    assert (first.is_new, jobs.start(_COMMAND, name="evaluate", by="trader", again=False).is_new) == (True, False)
    api.jobs[first.id]["status"] = "SUCCEEDED"
    assert not jobs.start(_COMMAND, name="evaluate", by="trader", again=False).is_new
    second = jobs.start(_COMMAND, name="evaluate", by="trader", again=True)
    third = jobs.start(_COMMAND, name="evaluate", by="trader", again=True)
    assert (second.id, second.is_new) == (f"{first.id}-2", True)
    assert (third.id, third.is_new) == (second.id, False)
    assert len(api.posted) == 2
    latest = jobs.latest(_COMMAND, name="evaluate")
    assert latest is not None
    assert (latest.id, latest.by) == (second.id, "trader")
    assert jobs.latest(("python", "-m", "jobs.tune"), name="evaluate") is None


def test_places_go_along_and_secrets_and_the_pages_own_settings_stay(api: JobApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FXCAST_WEB_KEY", "hunter2")
    monkeypatch.setenv("FXCAST_TOKEN", "hunter2")
    monkeypatch.setenv("FXCAST_WEB_DATABASE_URL", "postgresql://fxcast:hunter2@db/fx")
    monkeypatch.setenv("FXCAST_OANDA_TOKEN", "hunter2")
    monkeypatch.setenv("FXCAST_TRAINING__STEPS", "300")
    jobs = jobs_of(api, database_url="postgresql://fxcast:hunter2@db/fx")
    assert jobs.variables.kept == ("FXCAST_DATABASE_URL", "FXCAST_OANDA_TOKEN")
    jobs.start(_COMMAND, name="evaluate", by="trader", again=False)
    told = api.posted[0]["runtime_env"]["env_vars"]
    assert {name: told[name] for name in ("FXCAST_HOME", "FXCAST_STORE", "FXCAST_TRAINING__STEPS")} == {
        "FXCAST_HOME": "/shared",
        "FXCAST_STORE": "/shared/store",
        "FXCAST_TRAINING__STEPS": "300",
    }
    assert "hunter2" not in str(api.posted)
    with pytest.raises(BadSetting, match="holds a secret at --forecasts"):
        jobs.start((*_COMMAND, "--forecasts", "s3://key:hunter2@bucket"), name="evaluate", by="trader", again=False)
    assert len(api.posted) == 1


def test_only_a_job_that_fxcast_submitted_is_stopped(api: JobApi) -> None:
    api.add("ours", command="python -m jobs.train", status="RUNNING")
    api.add("theirs", command="python else.py", status="RUNNING")
    api.jobs["theirs"]["metadata"] = {}
    jobs = jobs_of(api)
    assert (jobs.stop("ours", by="trader"), jobs.stop("ours", by="trader")) == (True, False)
    for job in ("theirs", "nobody"):
        with pytest.raises(NotFound, match=f"job: found {job}"):
            jobs.stop(job, by="trader")
    assert api.jobs["theirs"]["status"] == "RUNNING"


def test_a_dashboard_that_is_silent_or_something_else_is_given_up(api: JobApi) -> None:
    jobs = jobs_of(api)
    api.answers.clear()
    with pytest.raises(Unavailable, match=rf"the cluster's dashboard at {api.url} does not answer as it should: .*timed out"):
        jobs.listed(limit=10)
    with webhook_server() as other:
        elsewhere = ClusterJobs(other.url.removesuffix("/hook"), home=".", store=".", database_url="sqlite:///fx.db")
        with pytest.raises(Unavailable, match="does not answer as it should"):
            elsewhere.listed(limit=10)
