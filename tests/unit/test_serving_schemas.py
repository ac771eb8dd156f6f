"""What the HTTP API takes: bodies that pydantic accepts, and the rules of the market data refuse by the body's own names; how long
an answer may take.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Generator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from ray.serve.handle import DeploymentResponse

from fxcast.domain.candle import CandleSeries, candle_problem, sound_rows, to_datetime
from fxcast.domain.forecaster import ForecastRequest, predict
from fxcast.errors import BadCandles, ForecastLate
from fxcast.models.folder import save_pretrained
from fxcast.serving.directory import ModelDirectory
from fxcast.serving.router import Asked, ForecastRouter, asked_in
from fxcast.serving.schemas import ForecastBody, MinutesQuery, PredictionsQuery
from tests.factories import make_series
from tests.model_factories import make_calibration, make_pipeline

Body = dict[str, Any]


def body_of(series: CandleSeries) -> Body:
    names = ("open", "high", "low", "close", "volume")
    return {
        "symbol": series.symbol,
        "timeframe": series.timeframe.name,
        "candles": [
            {"time": to_datetime(time).isoformat(), **dict(zip(names, row, strict=True))}
            for time, row in zip(series.open_times, series.values.tolist(), strict=True)
        ],
    }


def flat(body: Body, prices: list[float]) -> None:
    for candle, price in zip(body["candles"], prices, strict=True):
        candle.update(open=price, high=price, low=price, close=price)


def test_a_sound_body_is_the_series_it_was_made_of() -> None:
    series = make_series()
    window = ForecastBody.model_validate(body_of(series)).window()
    assert (window.open_times == series.open_times).all()
    assert (window.values == series.values).all()


def test_times_of_another_zone_are_the_same_moments() -> None:
    series = make_series()
    body = body_of(series)
    body["candles"][0]["time"] = body["candles"][0]["time"].replace("00:00:00+00:00", "05:30:00+05:30")
    assert (ForecastBody.model_validate(body).window().open_times == series.open_times).all()


_REFUSALS: list[tuple[str, Callable[[Body], Any], str]] = [
    ("the first moment there is", lambda body: body["candles"][0].update(time="0001-01-01T00:00:00+14:00"), "candles[0].time"),
    ("the last moment there is", lambda body: body["candles"][99].update(time="9999-12-31T23:00:00-14:00"), "candles[99].time"),
    ("a time before 1970", lambda body: body["candles"][0].update(time="1969-12-31T23:00:00Z"), "candles[0].time"),
    (
        "a time nine tenths of a second off the grid",
        lambda body: body["candles"][3].update(time=body["candles"][3]["time"].replace("+00:00", ".9Z")),
        "candles[3].time",
    ),
    ("times out of order", lambda body: body["candles"].reverse(), "candles[1].time"),
    ("prices from one end of the floats to the other", lambda body: flat(body, [1e-300, 1e300] * 50), "candles[0].open"),
    ("a price too small", lambda body: flat(body, [9e-9] * 100), "candles[0].open"),
    ("a price too large", lambda body: flat(body, [1.1e8] * 100), "candles[0].open"),
    ("closes that jump elevenfold", lambda body: flat(body, [1.0, 11.0] * 50), "candles[1].close"),
    ("closes that fall to an eleventh", lambda body: flat(body, [11.0, 1.0] * 50), "candles[1].close"),
]


@pytest.mark.parametrize(("change", "field"), [refusal[1:] for refusal in _REFUSALS], ids=[refusal[0] for refusal in _REFUSALS])
def test_body_that_no_market_gives_is_refused_by_its_own_field(change: Callable[[Body], Any], field: str) -> None:
    body = body_of(make_series())
    change(body)
    request = ForecastBody.model_validate(body)
    with pytest.raises(BadCandles) as refusal:
        request.window()
    assert refusal.value.field == field


@pytest.mark.parametrize("prices", [[1e-8, 1e-7] * 50, [1e7, 1e8] * 50, [1e8] * 100, [1e-8] * 100])
def test_the_wildest_window_that_is_accepted_has_a_forecast(prices: list[float]) -> None:
    body = body_of(make_series())
    flat(body, prices)
    for position, candle in enumerate(body["candles"]):
        candle["volume"] = [0.0, 1.7e308][position % 2]
    window = ForecastBody.model_validate(body).window()
    pipeline = replace(make_pipeline(), calibration=make_calibration(width=3.0))
    answer = predict(pipeline, window, horizons_minutes=pipeline.horizons_minutes, num_samples=20, seed=0)
    assert all(math.isfinite(horizon.std) for horizon in answer.horizons.values())


def test_rows_are_sound_exactly_when_their_candles_have_no_problem() -> None:
    choices = np.array([np.nan, np.inf, -np.inf, -1.0, 0.0, 1e-300, 9e-9, 1e-8, 1.0, 1.1, 1e8, 1.1e8, 1e300])
    rows = np.random.default_rng(0).choice(choices, size=(20_000, 5))
    ordered = rows.copy()
    ordered[:, 1], ordered[:, 2] = rows[:, :4].max(axis=1), rows[:, :4].min(axis=1)
    for values in (rows, ordered):
        sound = sound_rows(values)
        assert sound.tolist() == [candle_problem(*(float(value) for value in row)) is None for row in values]
    assert sound_rows(ordered).any()


@pytest.mark.parametrize("query", [PredictionsQuery, MinutesQuery])
@pytest.mark.parametrize("bound", ["since", "until"])
def test_a_bound_that_is_no_moment_of_utc_is_refused_and_not_left_to_the_database(
    query: type[PredictionsQuery | MinutesQuery], bound: str
) -> None:
    for outside in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        with pytest.raises(ValidationError) as refusal:
            query.model_validate({bound: outside})
        assert [error["loc"] for error in refusal.value.errors()] == [(bound,)]
    inside = query.model_validate({bound: "2017-03-07T14:00:00+02:00"})
    assert getattr(inside, bound) == datetime(2017, 3, 7, 12, tzinfo=UTC)


@given(st.datetimes(timezones=st.timezones()))
def test_a_bound_is_refused_or_has_a_moment_of_utc(moment: datetime) -> None:
    try:
        query = MinutesQuery(since=moment)
    except ValidationError:
        return
    assert query.since is not None
    assert query.since.astimezone(UTC) == query.since


@pytest.mark.parametrize("time", [1509530400, 1509530400000, 1509530400.5, "1509530400", " 1.5e9 ", "-1", None, True])
def test_a_number_is_no_time(time: object) -> None:
    body = body_of(make_series())
    body["candles"][7]["time"] = time
    with pytest.raises(ValidationError) as refusal:
        ForecastBody.model_validate(body)
    assert ("candles", 7, "time") in [error["loc"] for error in refusal.value.errors()]
    if time is not None:  # which is no bound at all
        with pytest.raises(ValidationError):
            PredictionsQuery.model_validate({"since": time})


@pytest.mark.parametrize(("wanted", "is_kept"), [({}, True), ({"paths": True}, True), ({"vision": True, "futures": 2}, False)])
def test_a_forecast_that_is_looked_at_is_not_stored(wanted: Body, is_kept: bool) -> None:
    assert asked_in(ForecastBody.model_validate(body_of(make_series()) | wanted)).is_kept is is_kept


class SkippingLoop(asyncio.SelectorEventLoop):
    """A loop whose clock a test sets forward."""

    skipped_s = 0.0

    def time(self) -> float:  # pyright: ignore[reportImplicitOverride]
        return super().time() + self.skipped_s


class SlowAnswer(DeploymentResponse[Any]):
    """What a handle of Ray Serve gives, of a replica that takes its time."""

    def __init__(self, answer: object, takes_s: float) -> None:
        self._answer, self._takes_s = answer, takes_s
        self.is_cancelled = False

    def __await__(self) -> Generator[Any, None, Any]:
        return self._come().__await__()

    async def _come(self) -> object:
        cast("SkippingLoop", asyncio.get_running_loop()).skipped_s += self._takes_s
        for _ in range(3):
            await asyncio.sleep(0)  # a deadline that has passed is noticed
        return self._answer

    def cancel(self) -> None:  # pyright: ignore[reportImplicitOverride]
        self.is_cancelled = True


class SlowService:
    """A handle of Ray Serve whose replica takes so long for the forecast, and for its pictures."""

    def __init__(self, *answers: SlowAnswer) -> None:
        self._answers = list(answers)
        self.forecast = self.look = self

    def options(self, **_: object) -> SlowService:
        return self

    def remote(self, *_: object) -> SlowAnswer:
        return self._answers.pop(0)


@pytest.mark.parametrize(("look_s", "is_late"), [(10.0, False), (40.0, True)])
def test_a_forecast_and_its_pictures_have_one_deadline(tmp_path: Path, look_s: float, is_late: bool) -> None:
    save_pretrained(make_pipeline(), tmp_path, card="", fxcast_version="0")
    window = make_series()
    made = predict(make_pipeline(), window, horizons_minutes=(240,), num_samples=20, seed=0)
    look = SlowAnswer(({}, None), look_s)
    directory = ModelDirectory(tmp_path, database_url="sqlite://", clock=lambda: datetime.now(UTC))
    router = ForecastRouter(
        cast("Any", SlowService(SlowAnswer(made, 40.0), look)), directory, width_factors=lambda _key, _window: {}, timeout_s=60.0
    )
    asked = Asked(request=ForecastRequest(window=window, num_samples=20), vision=True)
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        if is_late:
            with pytest.raises(ForecastLate, match="within 60 s"):
                runner.run(router.answer(asked))
        else:
            assert runner.run(router.answer(asked))[0] is made
    assert look.is_cancelled is is_late
