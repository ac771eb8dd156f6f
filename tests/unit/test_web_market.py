"""What page Market shows, out of small values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine

from fxcast.adapters.storage.base import Base
from fxcast.adapters.storage.fans import PastForecast, PastForecasts, forecasting_models, newest_forecast, past_forecasts
from fxcast.adapters.storage.predictions import record_predictions, resolve_outcomes
from fxcast.adapters.storage.signal_marks import SignalMark, SignalMarks
from fxcast.domain.candle import CandleSeries, to_datetime, to_datetime64
from fxcast.domain.forecast import HorizonForecast, LDM4TSPrediction
from fxcast.domain.order import Side
from fxcast.domain.portfolio import Position
from fxcast.domain.signal import Direction, Verdict
from fxcast.domain.timeframe import Timeframe
from fxcast.trading.ports import PositionRecord
from fxcast.web.market_axis import due_openings
from fxcast.web.market_marks import signals_said
from fxcast.web.market_period import View, moved, newest_period, view_of, within
from fxcast.web.market_view import Shown, bar_sentence, candles_since, hit_sentence, market_figure
from fxcast.web.thinning import thin

HOUR, H1 = timedelta(hours=1), Timeframe("1h")
MONDAY = datetime(2024, 3, 4, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def candles(count: int, first: datetime = MONDAY) -> CandleSeries:
    closes = 1.1 + 0.001 * np.arange(count)
    values = np.column_stack([closes - 0.0005, closes + 0.001, closes - 0.001, closes, np.full(count, 7.0)])
    opens = to_datetime64(first) + np.arange(count) * H1.step
    return CandleSeries(symbol="EURUSD", timeframe=H1, open_times=opens, values=values)


def forecast(made_at: datetime, *, price: float = 1.2, version: str = "m") -> LDM4TSPrediction:
    def law(width: float) -> HorizonForecast:
        samples = tuple(price + width * place for place in (-1.0, -0.5, 0.0, 0.5, 1.0))
        return HorizonForecast(mean=price, std=width, q05=price - width, q50=price, q95=price + width, samples=samples)

    return LDM4TSPrediction(
        symbol="EURUSD",
        timeframe=H1,
        made_at=made_at,
        price=price,
        horizons={60: law(0.01), 240: law(0.02)},
        inference_time_ms=1.0,
        num_samples=5,
        model_version=version,
    )


def past(made_at: datetime, *, hit: bool | None = True, hours: int = 4) -> PastForecast:
    known = hit is not None
    return PastForecast(
        made_at=made_at,
        mean=1.1,
        q05=1.09,
        q95=1.11,
        target_at=made_at + hours * HOUR if known else None,
        actual_price=(1.1 if hit else 1.2) if known else None,
        inside_90=hit,
    )


def several(hits: Sequence[bool | None], every: timedelta = 5 * HOUR) -> PastForecasts:
    made = tuple(past(MONDAY + place * every, hit=hit) for place, hit in enumerate(hits))
    known = [hit for hit in hits if hit is not None]
    return PastForecasts(forecasts=made, made=len(hits), resolved=len(known), inside=sum(known))


def trade(opened: datetime, side: Side = Side.BUY) -> PositionRecord:
    position = Position(
        client_order_id=opened.isoformat(),
        symbol="EURUSD",
        side=side,
        units=Decimal(1000),
        entry_price=Decimal("1.1"),
        stop=Decimal("1.05"),
        target=None,
        opened_at=opened,
    )
    return PositionRecord(position=position, closed_at=opened + HOUR, exit_price=Decimal("1.12"), profit=Decimal(20))


def signal(hours: int, direction: Direction = Direction.BULL, *, units: int = 1000, reason: str = "") -> SignalMark:
    return SignalMark(
        made_at=MONDAY + hours * HOUR,
        direction=direction,
        price=1.1 + 0.001 * hours,
        verdict=Verdict.ACCEPTED if units else Verdict.REJECTED,
        reason=reason,
        quality_total=0.28,
        uncertainty_pct=0.12,
        base_units=Decimal(2000),
        units=Decimal(units),
    )


def shown(count: int = 48, **changed: Any) -> Shown:  # any field
    fields: dict[str, Any] = {
        "symbol": "EURUSD",
        "timeframe": H1,
        "start": MONDAY,
        "stop": MONDAY + 60 * HOUR,
        "bars": thin(candles(count), 1_500),
        "fan": None,
        "with_paths": False,
        "past": None,
        "horizon_minutes": None,
        "trades": (),
        "signals": None,
        "revision": "0",
    }
    return Shown(**{**fields, **changed})


def drawn(what: Shown, zone: tzinfo, theme: str) -> Any:  # Plotly's figures have no types
    return market_figure(what, zone, theme)


def named(figure: Any, name: str) -> Any:  # Plotly's traces have no types
    return next(trace for trace in figure.data if trace.name == name)


def test_the_forecast_begins_at_the_close_of_its_candle_and_stands_at_those_of_its_horizons() -> None:
    made = MONDAY + 48 * HOUR
    figure = drawn(shown(fan=forecast(made), with_paths=True), UTC, "light")
    mean = named(figure, "mean")
    assert list(mean.x) == ["2024-03-05T23:00:00", "2024-03-06T00:00:00", "2024-03-06T03:00:00"]
    assert list(mean.y) == [1.2, 1.2, 1.2]
    outer = named(figure, "forecast 90 %")
    assert list(outer.y) == pytest.approx([1.2, 1.21, 1.22, 1.18, 1.19, 1.2])
    inner = named(figure, "forecast 50 %")
    assert list(inner.y) == pytest.approx([1.2, 1.205, 1.21, 1.19, 1.195, 1.2])
    assert list(named(figure, "samples").y).count(None) == 5
    low, high = figure.layout.yaxis.range
    assert low < 1.099
    assert high > 1.22


def test_without_samples_no_inner_band_is_drawn() -> None:
    made = forecast(MONDAY + 48 * HOUR)
    law = HorizonForecast(mean=1.2, std=0.1, q05=1.1, q50=1.2, q95=1.3)
    bare = LDM4TSPrediction(
        symbol="EURUSD",
        timeframe=H1,
        made_at=made.made_at,
        price=1.2,
        horizons={60: law},
        inference_time_ms=1.0,
        num_samples=5,
        model_version="m",
    )
    figure = drawn(shown(fan=bare, with_paths=True), UTC, "dark")
    assert "forecast 50 %" not in {trace.name for trace in figure.data}


def test_hit_and_miss_differ_in_shape_and_stand_at_the_candle_that_decided() -> None:
    figure = drawn(shown(past=several([True, False, None]), horizon_minutes=240), UTC, "light")
    hit, miss = named(figure, "inside (1)"), named(figure, "missed (1)")
    assert list(hit.x) == ["2024-03-04T03:00:00"]
    assert list(miss.y) == [1.2]
    assert hit.marker.symbol != miss.marker.symbol
    assert len(named(figure, "past 90 %").x) == 7, "three points up, three back, and the end"


def test_no_band_is_drawn_over_days_that_nobody_forecast() -> None:
    made = [past(MONDAY + hours * HOUR) for hours in (0, 5, 10, 300, 305)]
    found = PastForecasts(forecasts=tuple(made), made=5, resolved=5, inside=5)
    figure = drawn(shown(past=found, horizon_minutes=240), UTC, "light")
    assert list(named(figure, "past 90 %").x).count(None) == 2


def test_trades_are_told_by_shape() -> None:
    figure = drawn(shown(trades=(trade(MONDAY), trade(MONDAY + 2 * HOUR, Side.SELL))), UTC, "light")
    symbols = {name: named(figure, name).marker.symbol for name in ("long", "short", "closed")}
    assert len(set(symbols.values())) == 3
    assert list(named(figure, "short").x) == ["2024-03-04T02:00:00"]


def test_signals_are_told_by_direction_and_verdict_and_stand_at_the_candle_that_closed() -> None:
    marks = (signal(3), signal(4, units=0), signal(5, Direction.BEAR), signal(6, Direction.BEAR, units=0), signal(7, units=0))
    figure = drawn(shown(signals=SignalMarks(marks=marks, made=5)), UTC, "light")
    looks = {
        name: named(figure, name).marker
        for name in ("bull accepted (1)", "bull refused (2)", "bear accepted (1)", "bear refused (1)")
    }
    assert len({(look.symbol, look.angle) for look in looks.values()}) == 4
    assert {name for name, look in looks.items() if look.symbol.endswith("-open")} == {"bull refused (2)", "bear refused (1)"}
    assert list(named(figure, "bull refused (2)").x) == ["2024-03-04T03:00:00", "2024-03-04T06:00:00"]
    assert list(named(figure, "bear accepted (1)").y) == [1.105]


@pytest.mark.parametrize(
    ("timeframe", "made", "candle"),
    [
        ("1d", datetime(2024, 3, 5, 12, tzinfo=UTC), "2024-03-04T22:00:00"),  # Tuesday's, not Monday's
        ("4h", datetime(2024, 3, 5, 12, tzinfo=UTC), "2024-03-05T10:00:00"),
        ("1h", datetime(2024, 3, 5, 12, tzinfo=UTC), "2024-03-05T11:00:00"),
        ("15m", datetime(2024, 3, 5, 12, tzinfo=UTC), "2024-03-05T11:45:00"),
        ("1d", datetime(2024, 3, 8, 22, tzinfo=UTC), "2024-03-07T22:00:00"),  # the last hour of Friday
    ],
)
def test_a_signal_stands_at_the_candle_in_which_it_was_made(timeframe: str, made: datetime, candle: str) -> None:
    marks = SignalMarks(marks=(replace(signal(0), made_at=made),), made=1)
    figure = drawn(shown(timeframe=Timeframe(timeframe), signals=marks), UTC, "light")
    assert list(named(figure, "bull accepted (1)").x) == [candle]


def test_beside_a_signal_stand_verdict_reason_quality_uncertainty_and_size() -> None:
    refused = signal(4, units=0, reason="<b>spread</b> of 3 pips" + " and more" * 40)
    figure = drawn(shown(signals=SignalMarks(marks=(refused,), made=1)), BERLIN, "light")
    (said,) = named(figure, "bull refused (1)").customdata
    first, reason, quality, size = said.split("<br>")
    assert first == "bull signal refused, 2024-03-04 05:00"
    assert reason.startswith("&lt;b&gt;spread&lt;/b&gt; of 3 pips and more")
    assert reason.endswith("…")
    assert (quality, size) == ("quality 0.280, uncertainty 0.120 % of the price", "size 0 of 2,000 units")


def test_how_many_signals_are_not_drawn_is_said() -> None:
    marks = (signal(1), signal(2, units=0))
    assert "(1), hollow where refused (1)" in signals_said(SignalMarks(marks=marks, made=2), "EURUSD", "demo")
    assert "not" not in signals_said(SignalMarks(marks=marks, made=2), "EURUSD", "demo")
    assert "Only the newest 2 are drawn: 5 more in view are not." in signals_said(
        SignalMarks(marks=marks, made=7), "EURUSD", "demo"
    )
    assert "at least 99,998 more" in signals_said(SignalMarks(marks=marks, made=100_000), "EURUSD", "demo")
    assert "no signal on EURUSD" in signals_said(SignalMarks(marks=(), made=0), "EURUSD", "demo")


def test_times_are_those_of_the_readers_zone() -> None:
    figure = drawn(shown(), BERLIN, "light")
    assert named(figure, "candles").x[0] == "2024-03-04T01:00:00"
    assert figure.layout.xaxis.range[0] == "2024-03-04T01:00:00"


def test_sessions_are_shaded_only_while_few_days_are_in_view() -> None:
    near = drawn(shown(), UTC, "light")
    assert list(near.layout.yaxis3.ticktext) == ["New York", "London", "Tokyo", "Sydney"]
    london = [shape for shape in near.layout.shapes if shape.x0 == "2024-03-05T08:00:00"]
    assert {shape.x1 for shape in london} == {"2024-03-05T17:00:00"}
    far = drawn(shown(stop=MONDAY + timedelta(days=30)), UTC, "light")
    assert not far.layout.shapes


def test_weekends_are_left_out_but_for_hours_with_a_candle() -> None:
    week = drawn(shown(stop=MONDAY + timedelta(days=7)), UTC, "light")
    assert ("2024-03-08T22:00:00", "2024-03-10T21:00:00") in [each.bounds for each in week.layout.xaxis.rangebreaks]
    saturday = shown(bars=thin(candles(24 * 6), 1_500), stop=MONDAY + timedelta(days=7))
    assert ("2024-03-10T00:00:00", "2024-03-10T21:00:00") in [
        each.bounds for each in drawn(saturday, UTC, "light").layout.xaxis.rangebreaks
    ]


def test_a_view_without_a_candle_is_drawn_empty() -> None:
    figure = drawn(shown(count=0), UTC, "light")
    assert len(named(figure, "candles").x) == 0


def test_a_horizon_is_counted_in_candles_and_not_over_the_weekend() -> None:
    friday_close = datetime(2024, 3, 8, 22, tzinfo=UTC)
    due = [to_datetime(each) for each in due_openings([friday_close - HOUR, friday_close], 120, H1)]
    assert due == [datetime(2024, 3, 10, 21, tzinfo=UTC), datetime(2024, 3, 10, 22, tzinfo=UTC)]
    assert len(due_openings([], 120, H1)) == 0


def test_a_day_is_one_candle_though_new_york_sets_its_clock() -> None:
    autumn = [to_datetime(each) for each in due_openings([datetime(2024, 10, 31, 21, tzinfo=UTC)], 2 * 1440, Timeframe("1d"))]
    assert autumn == [datetime(2024, 11, 3, 22, tzinfo=UTC)], "Friday is the first day after Thursday's close, Monday the second"
    spring = [to_datetime(each) for each in due_openings([datetime(2024, 3, 7, 22, tzinfo=UTC)], 2 * 1440, Timeframe("1d"))]
    assert spring == [datetime(2024, 3, 10, 21, tzinfo=UTC)]


def test_what_became_of_forecasts_is_said_with_its_interval() -> None:
    found = PastForecasts(forecasts=(past(MONDAY), past(MONDAY + timedelta(days=900))), made=180, resolved=180, inside=162)
    assert hit_sentence(found, 240).startswith(
        "Of 180 resolved forecasts at 240 minutes in view, 162 (90 %; 95 % interval 85 to 94 %) ended inside the 90 % interval."
    )
    assert "2 of them are drawn" in hit_sentence(found, 240)
    assert "outcome of none is known" in hit_sentence(several([None]), 240)
    assert "No forecast at 3,840 minutes" in hit_sentence(several([]), 3_840)
    assert "overlap" in hit_sentence(several([True, True, True], every=HOUR), 240)
    assert "1 more have no outcome" in hit_sentence(several([True, None]), 240)


def test_a_bar_of_several_candles_is_said() -> None:
    assert bar_sentence(thin(candles(48), 50), H1) == "Each bar: 1 candle of 1h."
    assert bar_sentence(thin(candles(48), 20), H1) == "Each bar: 4 candles of 1h (4 hours)."


def test_candles_since_a_forecast_are_counted_without_the_weekend() -> None:
    gap = np.concatenate([candles(4).open_times, candles(4).open_times + np.timedelta64(2, "D")])
    series = CandleSeries(symbol="EURUSD", timeframe=H1, open_times=gap, values=candles(8).values)
    bars = thin(series, 100)
    assert candles_since(forecast(MONDAY + 4 * HOUR), bars, MONDAY + timedelta(days=2, hours=4)) == 4
    assert candles_since(forecast(MONDAY - 2 * HOUR), bars, MONDAY + HOUR) == 3


ODD = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text(), max_size=3))


@given(st.one_of(ODD, st.dictionaries(st.sampled_from(["timeframe", "start", "stop", "zone", "steps", "turn"]), ODD)))
def test_what_a_browser_keeps_is_a_period_or_the_newest_candles(kept: Any) -> None:  # anything
    period = view_of(kept).period
    assert period is None or period[0] < period[1]


def test_a_zoom_is_read_by_the_readers_clock() -> None:
    zoomed = view_of({"start": "2024-03-04 01:00", "stop": "2024-03-04 02:30:00.1234", "zone": "Europe/Berlin"}).period
    assert zoomed is not None
    assert zoomed[0] == MONDAY
    assert zoomed[1] - zoomed[0] > 1.5 * HOUR
    assert view_of({"start": "2024-03-04", "stop": "2024-03-05"}).period == (MONDAY, MONDAY + timedelta(days=1))
    for start, stop in (("0001-01-01", "9999-12-31"), (2, 1), ("2024-03-05", "2024-03-04"), ("2024-03-05", None)):
        assert view_of({"start": start, "stop": stop, "zone": "Europe/Berlin"}).period is None


@given(st.integers(-(10**6), 10**6), st.integers(1, 10**9))
def test_a_period_never_lies_beside_all_candles(hours: int, seconds: int) -> None:
    span, first = (MONDAY, MONDAY + 500 * HOUR), MONDAY + hours * HOUR
    got = within((first, first + timedelta(seconds=seconds)), span, HOUR)
    assert got[0] < span[1]
    assert got[1] >= span[0]
    assert 8 * HOUR <= got[1] - got[0] <= 700 * HOUR


def test_buttons_move_the_view_and_the_newest_candles_are_followed() -> None:
    series, newest = candles(300), forecast(MONDAY + 290 * HOUR)
    home, span = newest_period(series, newest), (MONDAY, MONDAY + 300 * HOUR)
    assert home[1] > span[1]
    for to in ("forecast", "all", "earlier", "later", "closer", "wider"):
        view = moved(View(), to, home, home, span, newest, H1)
        assert view_of({"timeframe": view.timeframe, "start": view.start, "stop": view.stop, "turn": view.turn}) == view
        assert view.period is not None
        assert view.turn == 1
    assert moved(view_of(None), "newest", home, home, span, newest, H1).period is None
    assert view_of("nonsense") == View()
    assert view_of({"start": [1], "turn": "x"}).period is None
    assert view_of({"steps": ["earlier", 7], "turn": 3}) == View(steps=("earlier", "7"), turn=3)


def test_forecasts_are_found_with_what_happened(tmp_path: Path) -> None:
    database = create_engine(f"sqlite:///{tmp_path / 'fxcast.db'}")
    Base.metadata.create_all(database)
    record_predictions(database, [forecast(MONDAY + hours * HOUR, price=1.1) for hours in range(1, 21)])
    record_predictions(database, [forecast(MONDAY + 2 * HOUR, version="older")])
    resolve_outcomes(database, candles(14), spread=0.0001)
    models = forecasting_models(database, symbol="EURUSD", timeframe="1h")
    assert [(each.version, each.horizons_minutes) for each in models] == [("m", (60, 240)), ("older", (60, 240))]
    newest = newest_forecast(database, symbol="EURUSD", timeframe=H1, model_version="m", until=MONDAY + 7.5 * HOUR)
    assert newest == forecast(MONDAY + 7 * HOUR, price=1.1)
    assert newest_forecast(database, symbol="EURUSD", timeframe=H1, model_version="m", until=MONDAY) is None
    found = past_forecasts(
        database,
        symbol="EURUSD",
        timeframe="1h",
        model_version="m",
        horizon_minutes=240,
        since=MONDAY,
        until=MONDAY + 30 * HOUR,
        at_most=5,
    )
    assert (found.made, found.resolved, len(found.forecasts)) == (20, 10, 5)
    assert found.inside == sum(1 for hours in range(1, 11) if abs(0.001 * (hours + 3)) <= 0.02)
    assert [each.made_at for each in found.forecasts] == [MONDAY + hours * HOUR for hours in (4, 8, 12, 16, 20)]
    database.dispose()
