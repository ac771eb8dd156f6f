"""Page Models: what is shown of models, and how it asks for another one."""

# The parts of a page have no callers but its own callbacks, which need a browser.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import Any

import httpx
import pytest
from dash.development.base_component import Component

from fxcast.adapters.storage.database import Database, migrate, open_database
from fxcast.adapters.storage.model_history import forecast_kinds, models_that_forecast, quality_history
from fxcast.adapters.storage.predictions import record_predictions, resolve_outcomes
from fxcast.adapters.storage.quality import update_quality
from fxcast.adapters.storage.registry import activate, list_models, register_model
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries
from fxcast.errors import DatabaseUnavailable, Forbidden, NotFound
from fxcast.web.models_view import (
    in_place_of,
)
from fxcast.web.pages import models as page
from fxcast.web.roles import EVERYBODY, Caller, Role, caller
from fxcast.web.sources import Sources
from tests.factories import NOON, make_series
from tests.model_score_factories import KIND, predictions, registered


@pytest.fixture(scope="module")
def series() -> CandleSeries:
    return make_series(bars=320, seed=3)


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'fx.db'}"
    migrate(url)
    return url


@pytest.fixture
def empty(url: str) -> Database:
    return open_database(url)


@pytest.fixture
def database(empty: Database, series: CandleSeries) -> Database:
    record_predictions(empty, [*predictions(series, "wide", width=0.01), *predictions(series, "narrow", width=0.0001, count=30)])
    return empty


def sources_of(
    url: str, tmp_path: Path, answer: httpx.Response | Exception | None = None, asked: list[str] | None = None
) -> Sources:
    """Sources whose forecast service answers what it is given, and notes what it was asked."""
    sources = Sources(database_url=url, store=str(tmp_path / "store"), api_url="http://service", api_token=None, clock=lambda: NOON)

    def handle(request: httpx.Request) -> httpx.Response:
        if asked is not None:
            asked.append(f"{request.method} {request.url.raw_path.decode()}")
        if isinstance(answer, Exception):
            raise answer
        assert answer is not None
        return answer

    sources._api = httpx.Client(base_url="http://service", transport=httpx.MockTransport(handle))
    return sources


def text_of(component: Any) -> str:
    """Return what a component says, without its tags."""
    if component is None or isinstance(component, str | int | float):
        return "" if component is None else str(component)
    if isinstance(component, Component):
        return text_of(getattr(component, "children", None))
    return " ".join(text_of(each) for each in component)


def test_the_model_that_another_would_replace_is_the_one_in_use_for_its_pair(empty: Database) -> None:
    for model in (registered("first"), registered("second"), registered("every", symbol="*")):
        register_model(empty, model)
    activate(empty, "second")
    listed = {each.model.version: each for each in list_models(empty)}

    replaced = in_place_of(listed["first"], tuple(listed.values()))

    assert replaced is not None
    assert replaced.model.version == "second"
    assert in_place_of(listed["second"], tuple(listed.values())) is None
    assert in_place_of(listed["every"], tuple(listed.values())) is None


def test_asking_for_a_model_says_nothing_if_it_went_well(url: str, tmp_path: Path) -> None:
    asked: list[str] = []
    sources = sources_of(url, tmp_path, httpx.Response(200, json={"version": "a"}), asked)

    assert sources.activate_model("a/../b c") == ""
    assert asked == ["POST /v1/models/a%2F..%2Fb%20c/activate"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            httpx.Response(
                403, json={"title": "The token is not valid for this", "detail": "scope: found forecast; allowed: admin"}
            ),
            "The token is not valid for this: scope: found forecast; allowed: admin",
        ),
        (httpx.Response(502, text="Bad gateway"), "502 Bad Gateway: Bad gateway"),
        (httpx.Response(500, json=["odd"]), '500 Internal Server Error: ["odd"]'),
        (httpx.ReadTimeout("slow"), "no answer (ReadTimeout): the registry shows whether it was done"),
        (httpx.ConnectError("refused"), "the forecast service can't be reached (refused)"),
    ],
)
def test_what_the_service_refuses_is_said_in_its_words(
    url: str, tmp_path: Path, answer: httpx.Response | Exception, said: str
) -> None:
    assert sources_of(url, tmp_path, answer).activate_model("a") == said


@pytest.fixture
def somebody() -> Any:
    before = caller.set(EVERYBODY)
    yield
    caller.reset(before)


def test_putting_a_model_to_use_needs_an_admin(empty: Database, url: str, tmp_path: Path) -> None:
    register_model(empty, registered("first"))
    asked: list[str] = []
    sources = sources_of(url, tmp_path, httpx.Response(200, json={}), asked)
    before = caller.set(Caller(name="tina", role=Role.TRADE))
    try:
        with pytest.raises(Forbidden):
            page._activate(sources, "first")
    finally:
        caller.reset(before)
    assert asked == []


@pytest.mark.usefixtures("somebody")
def test_the_way_back_is_told(empty: Database, url: str, tmp_path: Path) -> None:
    register_model(empty, registered("first"))
    register_model(empty, registered("second"))
    activate(empty, "first")
    sources = sources_of(url, tmp_path, httpx.Response(200, json={}))

    assert "takes the place of first" in text_of(page._confirm(sources, "second"))
    assert text_of(page._activate(sources, "second")) == (
        "second is in use now. first was in use before: to go back, put that one to use."
    )
    with pytest.raises(NotFound):
        page._activate(sources, "third")


@pytest.mark.usefixtures("somebody")
def test_a_refusal_is_shown_and_not_taken_for_done(empty: Database, url: str, tmp_path: Path) -> None:
    register_model(empty, registered("first"))
    sources = sources_of(url, tmp_path, httpx.Response(409, json={"title": "No", "detail": "first stays out of use"}))

    assert text_of(page._activate(sources, "first")) == "first was not put to use:  No: first stays out of use"


@pytest.mark.usefixtures("somebody")
def test_without_models_the_page_says_how_to_train_one(empty: Database, url: str, tmp_path: Path) -> None:
    assert "python -m jobs.train" in text_of(page._registry(sources_of(url, tmp_path), UTC))
    assert models_that_forecast(empty) == {}


@pytest.mark.usefixtures("somebody")
def test_a_model_that_only_forecasts_is_shown_as_not_in_the_registry(database: Database, url: str, tmp_path: Path) -> None:
    register_model(database, registered("narrow"))

    said = text_of(page._registry(sources_of(url, tmp_path), UTC))

    assert "wide not in the registry" in said
    assert "narrow not in use" in said


@pytest.mark.usefixtures("somebody")
def test_the_body_is_drawn_before_and_after_outcomes_are_known(
    database: Database, url: str, tmp_path: Path, series: CandleSeries
) -> None:
    sources = sources_of(url, tmp_path)
    scores = page._Scores(sources)

    def said() -> str:
        return text_of(page._body(sources, scores, "wide", None, UTC, "light"))

    assert "python -m jobs.outcomes" in said()
    resolve_outcomes(database, series, spread=0.0)
    assert "no candles" in said()
    assert "as none are stored" in said()
    update_quality(database, "EURUSD", series.timeframe, window=500, pip=0.0001)
    CandleStore(str(tmp_path / "store")).append(series)
    after = said()
    assert "Newest outcome stored" in after
    assert "no candles" not in after
    assert "bars outside what chance allows" in after
    assert len(scores._known) == 1
    assert said() == after


def test_a_database_that_is_gone_is_an_outage_and_no_bug(database: Database, url: str, tmp_path: Path) -> None:
    Path(url.removeprefix("sqlite:///")).unlink()
    database.dispose()

    with pytest.raises(DatabaseUnavailable):
        models_that_forecast(database)
    with pytest.raises(DatabaseUnavailable):
        forecast_kinds(database, "wide")
    with pytest.raises(DatabaseUnavailable):
        quality_history(database, KIND, points=3)
    assert tmp_path.exists()
