"""The jobs of a cluster as the page sees them, over a server on loopback that speaks the cluster's API."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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


@dataclass
class Clock:
    """Seconds that pass when a test says so."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def jobs_of(api: JobApi, *, database_url: str = "sqlite:///fx.db", clock: Callable[[], float] = time.monotonic) -> ClusterJobs:
    return ClusterJobs(api.url, home="/shared", store="/shared/store", database_url=database_url, clock=clock)


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


def test_a_log_that_is_slow_is_said_and_the_others_are_there(api: JobApi) -> None:
    api.add("here", command="python -m jobs.tune", status="RUNNING", log="at work\n", start_time=1_772_452_900_000)
    api.add("slow", command="python -m jobs.tune", status="RUNNING")
    api.slow_logs.add("slow")
    clock = Clock()
    jobs = jobs_of(api, clock=clock)
    for _ in range(2):
        said = {each.id: each.said for each in jobs.listed(limit=10)}
        assert said["here"] == "at work"
        assert said["slow"].startswith("its log can't be read: ")
        assert "timed out" in said["slow"]
        clock.now += 5
    assert api.asked_for("/api/jobs/slow/logs") == 1, "it is not waited for again at once"


def test_when_a_slow_log_has_taken_the_time_for_all_the_others_are_read_at_the_next_look(api: JobApi) -> None:
    api.add("first", command="python -m jobs.tune", status="RUNNING", log="slowly\n", start_time=1_772_452_900_000)
    api.add("second", command="python -m jobs.tune", status="RUNNING", log="at work\n")
    now = [0.0]

    def clock() -> float:
        return now[0] + 10.0 * api.asked_for("/api/jobs/first/logs")

    jobs = jobs_of(api, clock=clock)
    first, second = jobs.listed(limit=10)
    assert (first.said, second.said) == ("slowly", "its log was not read: the cluster took too long for others")
    now[0] += 5
    first, second = jobs.listed(limit=10)
    assert (first.said, second.said) == ("slowly", "at work")


def test_pages_share_an_answer_for_some_seconds_and_logs_for_some_more_until_something_is_done(api: JobApi) -> None:
    api.add("one", command="python -m jobs.tune", status="RUNNING", log="step 1\n")
    clock = Clock()
    jobs = jobs_of(api, clock=clock)
    listing, its_log = "/api/jobs", "/api/jobs/one/logs"
    with ThreadPoolExecutor(4) as pages:
        found = [each.result() for each in [pages.submit(jobs.listed, limit=10) for _ in range(4)]]
    assert [each[0].said for each in found] == ["step 1"] * 4
    assert (api.asked_for(listing), api.asked_for(its_log)) == (1, 1)
    api.logs["one"] = "step 2\n"
    clock.now = 5
    assert jobs.listed(limit=10)[0].said == "step 1"
    assert (api.asked_for(listing), api.asked_for(its_log)) == (2, 1)
    clock.now = 16
    assert jobs.listed(limit=10)[0].said == "step 2"
    api.logs["one"] = "stopped\n"
    jobs.stop("one", by="trader")
    assert [(each.state, each.said) for each in jobs.listed(limit=10)] == [("stopped", "stopped")]
    asked = api.asked_for(its_log)
    clock.now = 1000
    jobs.listed(limit=10)
    assert api.asked_for(its_log) == asked, "the log of a job that has ended grows no more"


def test_that_the_dashboard_is_silent_is_told_to_all_who_ask_at_the_same_time(api: JobApi) -> None:
    clock = Clock()
    jobs = jobs_of(api, clock=clock)
    api.answers.clear()
    with pytest.raises(Unavailable, match="timed out"):
        jobs.listed(limit=10)
    asked = len(api.asked)
    with pytest.raises(Unavailable, match="timed out"):
        jobs.listed(limit=10)
    assert len(api.asked) == asked
    api.answers.set()
    clock.now = 5
    assert jobs.listed(limit=10) == ()


def test_a_job_on_a_cluster_that_was_made_anew_does_not_show_what_an_older_one_of_its_id_said(api: JobApi) -> None:
    api.add("same", command="python -m jobs.tune", status="SUCCEEDED", log="the old one is done\n")
    clock = Clock()
    jobs = jobs_of(api, clock=clock)
    assert jobs.listed(limit=10)[0].said == "the old one is done"
    for status, said in (("PENDING", ""), ("SUCCEEDED", "the new one is done")):
        api.add("same", command="python -m jobs.tune", status=status, log="the new one is done\n", start_time=1_772_459_000_000)
        clock.now += 5
        assert jobs.listed(limit=10)[0].said == said


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
