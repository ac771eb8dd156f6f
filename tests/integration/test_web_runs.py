"""Page Runs in a real browser: starting and stopping runs as jobs of a cluster, whose API a server on loopback speaks."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, expect

from fxcast.adapters.storage.access_tokens import Scope, create_token
from fxcast.cluster.local import REPOSITORY
from fxcast.web.startable import start_form, startable
from tests.browser import Visit, needs_chromium, visiting
from tests.job_api import JobApi, job_api
from tests.ports import free_port
from tests.web_site import Site

pytestmark = needs_chromium

_DO = '"id":"runs-do","property":"n_clicks","value":1'
_ASKS = '"output":"runs-confirm.children"'
_TRAINING = "python -m jobs.train --config configs/train.yaml --name=mine"


@pytest.fixture(scope="module", autouse=True)
def settings_are_read() -> None:
    """Import a job once: torch takes long."""
    start_form(startable("evaluate"), "evaluate.yaml")


@pytest.fixture
def api() -> Iterator[JobApi]:
    with job_api() as api:
        yield api


@pytest.fixture
def site(tmp_path: Path, api: JobApi) -> Iterator[Site]:
    """A site with a viewer and a trader."""
    site = Site(folder=tmp_path, tokens=True, dashboard_url=api.url)
    database = site.fill()
    for name, scope in (("viewer", Scope.VIEW), ("trader", Scope.TRADE)):
        secret = create_token(database, name=name, scopes=[scope], now=datetime.now(UTC))
        (tmp_path / f"{name}.token").write_text(secret)
    database.dispose()
    site.start()
    yield site
    site.stop()


def opened_by(visit: Visit, site: Site, name: str) -> Page:
    visit.page.goto(f"{site.url}/runs")
    visit.page.get_by_label("Token").fill((site.folder / f"{name}.token").read_text())
    visit.page.get_by_role("button", name="Sign in").click()
    expect(visit.page.get_by_role("heading", name="On the cluster")).to_be_visible()
    visit.errors.clear()  # that nobody was signed in
    return visit.page


def fill_in_an_evaluation(page: Page, **changes: str) -> None:
    page.get_by_label("evaluate", exact=True).check()
    page.get_by_text("All other settings").click()
    for label, text in changes.items():
        page.get_by_role("textbox", name=label.replace("_", " "), exact=True).fill(text)


def command(*options: str) -> str:
    config = REPOSITORY / "configs" / "evaluate.yaml"  # the job's home is no checkout here
    return shlex.join(["python", "-m", "jobs.evaluate", "--config", str(config), *options])


def test_what_is_shown_is_checked_confirmed_and_started_once_with_who_did_it(site: Site, api: JobApi) -> None:
    with visiting() as visit:
        page = opened_by(visit, site, "trader")
        fill_in_an_evaluation(page, num_samples="5", step_bars="7")
        page.get_by_role("button", name="Check evaluate").click()
        expect(page.locator("#runs-problem")).to_contain_text("num_samples: found '5': Input should be greater than or equal to 10")
        page.get_by_role("textbox", name="num samples", exact=True).fill("many")
        page.get_by_role("button", name="Check evaluate").click()
        expect(page.locator("#runs-problem")).to_contain_text("num_samples: found 'many'; allowed: a whole number, at least 10")
        expect(page.get_by_role("alertdialog")).to_have_count(0)

        page.get_by_role("textbox", name="num samples", exact=True).fill("60")
        page.get_by_role("button", name="Check evaluate").click()
        shown = page.get_by_role("alertdialog")
        expect(shown.locator("code")).to_have_text(command("--step-bars=7", "--num-samples=60"))
        expect(page.locator("#runs-problem")).to_have_text("")
        assert Axe().run(page).violations_count == 0
        shown.get_by_role("button", name="Cancel").click()
        expect(page.locator("#runs-said")).to_have_text("Nothing was started or stopped.")
        assert api.posted == []

        page.get_by_role("button", name="Check evaluate").click()
        page.get_by_role("button", name="Start", exact=True).dblclick()
        expect(page.locator("#runs-said")).to_contain_text("job evaluate-")
        expect(page.get_by_role("row").filter(has_text="--step-bars=7")).to_contain_text("trader")
        (posted,) = api.posted
        assert posted["entrypoint"] == command("--step-bars=7", "--num-samples=60")
        assert posted["metadata"]["by"] == "trader"
        told = posted["runtime_env"]["env_vars"]
        places = {
            "FXCAST_HOME": str(site.folder),
            "FXCAST_STORE": str(site.folder / "store"),
            "FXCAST_DATABASE_URL": site.database_url,
        }
        assert {name: told.get(name) for name in places} == places

        page.get_by_role("button", name="Check evaluate").click()
        expect(page.get_by_role("alertdialog")).to_contain_text("It runs already")
        assert (visit.errors, visit.outside) == ([], [])


def test_a_run_that_has_succeeded_is_started_anew_only_after_that_was_said(site: Site, api: JobApi) -> None:
    with visiting() as visit:
        page = opened_by(visit, site, "trader")
        fill_in_an_evaluation(page, step_bars="8")
        page.get_by_role("button", name="Check evaluate").click()
        page.get_by_role("button", name="Start", exact=True).click()
        expect(page.locator("#runs-said")).to_contain_text("Started as job evaluate-")
        (first,) = api.jobs
        api.jobs[first]["status"] = "SUCCEEDED"
        page.get_by_role("button", name="Check evaluate").click()
        expect(page.get_by_role("alertdialog")).to_contain_text(f"It has succeeded before, as job {first}")
        page.get_by_role("button", name="Start", exact=True).click()
        expect(page.locator("#runs-said")).to_contain_text(f"Started as job {first}-2")


def test_progress_is_shown_and_a_job_is_stopped_after_a_confirmation(site: Site, api: JobApi) -> None:
    bar = "denoiser     ━━━━━━ 120/400 0:01:00 left 0:02:20"
    api.add("train-mine-3f2a91c4", command=_TRAINING, status="RUNNING", log=f"beginning\n{bar}\nsomething else\n")
    api.add("theirs", command="python other.py", status="RUNNING")
    api.jobs["theirs"]["metadata"] = {}
    with visiting() as visit:
        page = opened_by(visit, site, "trader")
        row = page.get_by_role("row").filter(has_text="train-mine-3f2a91c4")
        expect(row).to_contain_text("left 0:02:20")
        expect(page.get_by_text("other.py")).to_have_count(0)
        row.get_by_role("button", name="Stop train-mine-3f2a91c4").click()
        expect(page.get_by_role("alertdialog")).to_contain_text("Stop job train-mine-3f2a91c4?")
        assert api.jobs["train-mine-3f2a91c4"]["status"] == "RUNNING"
        page.get_by_role("button", name="Stop the job").click()
        expect(page.locator("#runs-said")).to_contain_text("Job train-mine-3f2a91c4 is asked to stop, by trader.")
        expect(row).to_contain_text("stopped")
        assert api.jobs["train-mine-3f2a91c4"]["status"] == "STOPPED"


def test_an_answer_is_to_the_question_on_the_screen_while_another_one_is_on_its_way(site: Site, api: JobApi) -> None:
    for job in ("train-first", "train-second"):
        api.add(job, command=_TRAINING, status="RUNNING")
    held: list[Route] = []

    def hold(route: Route) -> None:
        if _ASKS in (route.request.post_data or ""):
            held.append(route)
        else:
            route.continue_()

    with visiting() as visit:
        page = opened_by(visit, site, "trader")
        page.get_by_role("button", name="Stop train-first").click()
        shown = page.get_by_role("alertdialog")
        expect(shown).to_contain_text("Stop job train-first?")
        page.route("**/_dash-update-component?*", hold)
        with page.expect_request(lambda request: _ASKS in (request.post_data or "")):
            page.get_by_role("button", name="Stop train-second").click()
        expect(shown).to_contain_text("Stop job train-first?")
        shown.get_by_role("button", name="Stop the job").click()
        expect(page.locator("#runs-said")).to_contain_text("Job train-first is asked to stop, by trader.")
        assert api.jobs["train-second"]["status"] == "RUNNING"
        for route in held:
            route.continue_()
        page.unroute("**/_dash-update-component?*")
        expect(shown).to_contain_text("Stop job train-second?")
        shown.get_by_role("button", name="Stop the job").click()
        expect(page.locator("#runs-said")).to_contain_text("Job train-second is asked to stop, by trader.")
        expect(shown).to_have_count(0)


def test_who_may_only_look_sees_no_buttons_and_is_refused_whatever_is_sent(site: Site, api: JobApi) -> None:
    api.add("train-mine-3f2a91c4", command=_TRAINING, status="RUNNING")
    sent: list[tuple[str, str]] = []
    with visiting() as visit:  # what the page sends for somebody who may
        page = opened_by(visit, site, "trader")
        fill_in_an_evaluation(page, step_bars="9")
        page.get_by_role("button", name="Check evaluate").click()
        with page.expect_request(lambda request: _DO in (request.post_data or "")) as starting:
            page.get_by_role("button", name="Start", exact=True).click()
        expect(page.locator("#runs-said")).to_contain_text("Started as job evaluate-")
        page.get_by_role("button", name="Stop train-mine-3f2a91c4").click()
        with page.expect_request(lambda request: _DO in (request.post_data or "")) as stopping:
            page.get_by_role("button", name="Stop the job").click()
        expect(page.locator("#runs-said")).to_contain_text("is asked to stop")
        sent += [(each.value.url, each.value.post_data or "") for each in (starting, stopping)]
    api.jobs.clear()
    api.posted.clear()
    api.add("train-mine-3f2a91c4", command=_TRAINING, status="RUNNING")
    with visiting() as visit:
        page = opened_by(visit, site, "viewer")
        expect(page.get_by_text("Starting and stopping runs needs a token of scope trade.")).to_be_visible()
        expect(page.get_by_role("row").filter(has_text="train-mine-3f2a91c4")).to_be_visible()
        expect(page.locator("main").get_by_role("button")).to_have_count(0)
        for url, body in sent:
            assert "found view; allowed: trade" in visit.post(url, body)
    assert api.posted == []
    assert api.jobs["train-mine-3f2a91c4"]["status"] == "RUNNING"


@pytest.mark.parametrize("answers", ["refuses", "is silent"])
def test_a_dashboard_that_is_gone_is_said_and_the_rest_is_drawn(tmp_path: Path, api: JobApi, answers: str) -> None:
    if answers == "is silent":
        api.answers.clear()
    url = api.url if answers == "is silent" else f"http://127.0.0.1:{free_port()}"
    site = Site(folder=tmp_path, dashboard_url=url)
    site.fill().dispose()
    site.start()
    try:
        with visiting() as visit:
            visit.page.goto(f"{site.url}/runs")
            expect(visit.page.get_by_role("heading", name="Walk-forwards")).to_be_visible()
            said = visit.page.locator("#runs-jobs").get_by_role("alert")
            expect(said).to_contain_text(f"the cluster's dashboard at {url} does not answer as it should")
            fill_in_an_evaluation(visit.page, step_bars="9")
            visit.page.get_by_role("button", name="Check evaluate").click()
            expect(visit.page.get_by_role("alertdialog")).to_contain_text("does not answer as it should")
            assert visit.errors == []
    finally:
        site.stop()


def test_without_a_dashboard_the_page_says_that_nothing_is_started_from_here(tmp_path: Path) -> None:
    site = Site(folder=tmp_path)
    site.fill().dispose()
    site.start()
    try:
        with visiting() as visit:
            visit.page.goto(f"{site.url}/runs")
            expect(visit.page.get_by_text("Runs are not started from here")).to_be_visible()
            expect(visit.page.get_by_role("heading", name="On the cluster")).to_have_count(0)
    finally:
        site.stop()


def test_an_evaluation_is_listed_with_its_report(site: Site) -> None:
    folder = site.folder / "runs" / "evaluate" / "mine-1h-20171026"
    folder.mkdir(parents=True)
    scores = {
        "model": "mine",
        "timeframe": "1h",
        "symbols": {"EURUSD": {}},
        "warnings": [],
        "start": "2017-10-26T00:00:00+00:00",
        "stop": "2017-12-29T00:00:00+00:00",
        "averages": {"all": {"random-walk": {"skill": 0.031}}},
    }
    (folder / "scores.json").write_text(json.dumps(scores))
    (folder / "report.html").write_text("<h1>What it was worth</h1>")
    with visiting() as visit:
        page = opened_by(visit, site, "viewer")
        row = page.get_by_role("row").filter(has_text="+3.10 % against random-walk")
        with visit.context.expect_page() as opening:
            row.get_by_role("link", name="open").click()
        expect(opening.value.get_by_role("heading", name="What it was worth")).to_be_visible()
