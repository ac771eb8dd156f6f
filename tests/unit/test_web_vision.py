"""What page Vision shows and says, out of what the real model's parts answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import numpy as np
import pytest

from fxcast.client import ForecastClient
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries, to_datetime, to_datetime64
from fxcast.domain.forecaster import ForecastRequest, predict_together
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadRequest, ForecastUnavailable, UnexpectedAnswer
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.models.text import describe_window
from fxcast.serving.looking import look
from fxcast.serving.schemas import check_futures, prediction_body
from fxcast.trading.forecasting import forecast_seed
from fxcast.web.asked_forecasts import Asked, AskedForecasts, Kept, Look
from fxcast.web.vision_view import (
    bars_a_row,
    channel_figure,
    colour_figure,
    future_words,
    picture_words,
    prices_figure,
    rhythm_words,
)
from tests.api_server import api_server
from tests.factories import make_series
from tests.forecast_server import ForecastServer
from tests.model_factories import make_calibration, make_pipeline
from tests.ports import free_port
from tests.web_site import Site

BERLIN = ZoneInfo("Europe/Berlin")
H1 = Timeframe("1h")
MONDAY = datetime(2024, 3, 4, tzinfo=UTC)


def calibrated() -> LDM4TSPipeline:
    return replace(make_pipeline(), calibration=make_calibration(mean_weight=0.5, width=2.0))


def looked(window: CandleSeries, *, futures: int = 0, num_samples: int = 8, pipeline: LDM4TSPipeline | None = None) -> Look:
    """Return what the service answers about a window, without the wire."""
    forecaster = pipeline or make_pipeline()
    request = ForecastRequest(window=window, num_samples=num_samples, seed=3, width_factors={960: 1.5})
    pictures, seen = look(forecaster, request, futures)
    body = prediction_body(predict_together(forecaster, [request])[0], with_samples=True, pictures=pictures, seen=seen)
    assert body.vision is not None
    return Look(asked_at=body.made_at, window=window, forecast=body, pictures=body.vision, seen=seen)


def swinging(bars: int) -> CandleSeries:
    """Return candles whose returns swing with a period, and nothing else."""
    closes = 1.1 * np.exp(0.001 * np.sin(2 * np.pi * np.arange(100) / bars))
    values = np.column_stack([closes, closes * 1.001, closes * 0.999, closes, np.full(100, 7.0)])
    opens = to_datetime64(MONDAY) + np.arange(100) * H1.step
    return CandleSeries(symbol="EURUSD", timeframe=H1, open_times=opens, values=values)


def scaled(window: CandleSeries) -> Any:
    logs = np.log(window.closes)
    return 2.0 * (logs - logs.min()) / (logs.max() - logs.min()) - 1.0


def candle_at(window: CandleSeries, words: str, zone: tzinfo = UTC) -> int:
    """Return which candle a text is about, by the time that it begins with."""
    moment = datetime.strptime(words[:16], "%Y-%m-%d %H:%M").replace(tzinfo=zone).astimezone(UTC)
    return [to_datetime(each) for each in window.open_times].index(moment)


@pytest.mark.parametrize("zone", [UTC, BERLIN])
def test_a_pixel_of_seg_names_the_candle_whose_close_it_shows(zone: tzinfo) -> None:
    window = make_series()
    trace: Any = channel_figure(looked(window), "seg", zone, None).data[0]
    named = np.array([[candle_at(window, words, zone) for words in row] for row in trace.customdata])
    assert set(named.flatten().tolist()) == set(range(100))
    assert np.abs(np.array(trace.z) - scaled(window)[named]).max() < 0.005  # a grey value is a 255th
    place = named[5][7]
    open_, high, low, close = (f"{price:.5f}" for price in window.values[place, :4])
    assert trace.customdata[5][7].endswith(f"<br>open {open_} high {high}<br>low {low} close {close}")


def test_a_pixel_of_gaf_and_rp_names_both_groups_of_candles_that_it_joins() -> None:
    window = make_series()
    answer = looked(window)
    gaf: Any = channel_figure(answer, "gaf", UTC, None).data[0]
    recurrence: Any = channel_figure(answer, "rp", UTC, None).data[0]
    assert gaf.x == gaf.y == recurrence.x == recurrence.y
    assert len(set(gaf.x)) == 32, "equal labels would fall together"
    means = np.empty(32)
    for place, words in enumerate(gaf.x):
        number, times, prices, rest = (words.split(": ", 1)[0], *words.split(": ", 1)[1].split("<br>"))
        first = candle_at(window, times)
        last = first + 3
        assert number == str(place + 1)
        ended = f"{to_datetime(window.open_times[last]):%Y-%m-%d %H:%M}"
        assert times.endswith(f" to {ended[-5:] if times[:10] == ended[:10] else ended[5:]}")
        assert prices == f"open {window.values[first, 0]:.5f} high {window.values[first : last + 1, 1].max():.5f}"
        assert rest == f"low {window.values[first : last + 1, 2].min():.5f} close {window.values[last, 3]:.5f}"
        means[place] = scaled(window)[first : last + 1].mean()
    assert np.abs(np.array(recurrence.z) - (1.0 - np.abs(means[:, None] - means[None, :]))).max() < 0.006
    angles = np.arccos(np.clip(means, -1, 1))
    assert np.abs(np.array(gaf.z) - np.cos(angles[:, None] + angles[None, :])).max() < 0.006


def test_the_colours_are_the_three_channels_and_tell_both_moments_of_a_pixel() -> None:
    window = make_series()
    answer = looked(window)
    image: Any = colour_figure(answer, UTC, "dark").data[0]
    for channel, name in enumerate(("seg", "gaf", "rp")):
        alone: Any = channel_figure(answer, name, UTC, None).data[0]
        assert np.abs(np.array(image.z)[:, :, channel] / 127.5 - 1.0 - np.array(alone.z)).max() < 0.001
    first, row, column = image.customdata[31][0].split("<br>")
    assert candle_at(window, first.removeprefix("red: ")) == answer.seen.pixels.seg[31][0]
    assert candle_at(window, row.removeprefix("green, blue: ")) == 96
    assert candle_at(window, column.removeprefix("with ")) == 0


def test_a_row_of_seg_is_said_to_be_the_period_that_was_found() -> None:
    answer = looked(swinging(20))
    assert bars_a_row(answer) == 20
    assert "20 candles a row" in picture_words(answer, "seg")


def test_the_sentence_is_the_one_that_the_model_gets() -> None:
    window = make_series()
    assert looked(window).seen.text == describe_window(window, make_pipeline().config.volatility_span_bars)


def test_a_period_that_is_there_is_told_and_noise_is_called_noise() -> None:
    seen = looked(swinging(10)).seen
    assert rhythm_words(seen.return_rhythms, 60).startswith("10 candles (10 h) 9")
    assert "more than noise" in rhythm_words(seen.return_rhythms, 60)
    noise = looked(make_series()).seen.return_rhythms
    assert [each.share for each in noise] == sorted((each.share for each in noise), reverse=True)
    assert "Noise often has as strong ones" in rhythm_words(noise, 60)


def test_a_window_that_does_not_move_has_no_periods() -> None:
    window = make_series()
    still = replace(window, values=np.tile([1.1, 1.1, 1.1, 1.1, 0.0], (100, 1)))
    seen = looked(still).seen
    assert (seen.return_rhythms, seen.size_rhythms) == ([], [])
    assert rhythm_words([], 60) == "none, it does not move"


def test_the_futures_pass_through_the_forecasts_own_samples() -> None:
    answer = looked(make_series(), futures=8, pipeline=calibrated())
    for minutes, horizon in answer.forecast.horizons.items():
        at = answer.seen.future_minutes.index(float(minutes))
        assert sorted(each.prices[at] for each in answer.seen.futures) == pytest.approx(horizon.samples, rel=1e-12)
    assert answer.seen.future_pixels is not None
    few = looked(make_series(), futures=3, pipeline=calibrated())
    assert few.seen.futures == answer.seen.futures[:3]


def test_without_futures_nothing_is_said_of_their_charts() -> None:
    assert looked(make_series()).seen.future_pixels is None


def test_futures_are_drawn_from_now_on_beside_mean_and_interval() -> None:
    answer = looked(make_series(), futures=4)
    figure: Any = prices_figure(answer, None)
    drawn = [trace for trace in figure.data if trace.name == "sampled futures"]
    assert len(drawn) == len(future_words(answer)) == 4
    assert drawn[2].x[:2] == (0.0, 1.0)
    assert drawn[2].y == (answer.forecast.price, *answer.seen.futures[2].prices)
    (mean,) = (trace for trace in figure.data if trace.name == "mean")
    assert mean.x == (0.0, 4.0, 16.0, 64.0)
    assert mean.y[1:] == tuple(answer.forecast.horizons[each].mean for each in ("240", "960", "3840"))
    end = answer.seen.futures[0].prices[-1]
    assert future_words(answer)[0] == f"1: ends at {end:.5f} ({100 * (end / answer.forecast.price - 1):+.2f} %)"


@pytest.mark.parametrize(("futures", "with_vision", "allowed"), [(1, False, "without vision"), (11, True, "at most 10")])
def test_charts_that_can_not_be_are_refused(futures: int, with_vision: bool, allowed: str) -> None:
    check_futures(10, 10, with_vision=True)
    with pytest.raises(BadRequest, match=allowed) as refused:
        check_futures(futures, 10, with_vision=with_vision)
    assert refused.value.field == "futures"


def asked_about(window: CandleSeries, store: CandleStore) -> Asked:
    store.append(window)
    closed = to_datetime(window.close_times[-1])
    return Asked(symbol=window.symbol, timeframe=window.timeframe, model=None, until=closed)


@dataclass
class Clock:
    """One that a test sets."""

    at: datetime = MONDAY

    def now(self) -> datetime:
        return self.at


def test_open_pages_share_an_answer_and_only_a_press_of_look_makes_a_new_one(tmp_path: Path) -> None:
    store, clock = CandleStore(tmp_path), Clock()
    asked = asked_about(make_series(), store)
    server = ForecastServer(pipeline=make_pipeline())
    server.start()
    with ForecastClient(server.url, "", retries=0) as client:
        looks = AskedForecasts(client, store, clock.now)
        first = looks.look(asked)
        assert (first.window.values == make_series().values).all()
        clock.at += timedelta(minutes=1)
        assert looks.look(replace(asked)) is first, "another page that follows"
        pressed = replace(asked, pressed_at=clock.at)
        second = looks.look(pressed)
        assert len(server.asked) == 2
        assert (first.asked_at, second.asked_at) == (MONDAY, clock.at)
        clock.at += timedelta(minutes=1)
        assert looks.look(pressed) is second, "to paint anew asks for no forecast"
        assert looks.look(asked) is second, "the newest serves whoever has not pressed"
        assert len(server.asked) == 2
        with pytest.raises(BadRequest, match="model_version"):
            looks.look(replace(asked, model="another"))
    server.stop()


def test_what_is_shown_is_what_an_engine_forecasts_of_the_candle(tmp_path: Path) -> None:
    store, window = CandleStore(tmp_path), make_series()
    asked = asked_about(window, store)
    server = ForecastServer(pipeline=make_pipeline())
    server.start()
    with ForecastClient(server.url, "", retries=0) as client:
        shown = AskedForecasts(client, store, Clock().now).look(asked).forecast
    server.stop()
    seed = forecast_seed(window.symbol, to_datetime(window.close_times[-1]))
    traded = predict_together(make_pipeline(), [ForecastRequest(window=window, num_samples=50, seed=seed)])[0]
    assert shown.num_samples == 50
    assert {int(minutes): horizon.q05 for minutes, horizon in shown.horizons.items()} == {
        minutes: horizon.q05 for minutes, horizon in traded.horizons.items()
    }


def test_a_press_counts_though_news_came_meanwhile() -> None:
    asked = Asked(symbol="EURUSD", timeframe=H1, model=None, until=MONDAY, pressed_at=MONDAY + timedelta(hours=1))
    for each in (asked, replace(asked, pressed_at=None)):
        kept = Kept(asked=each, clicks=2)
        assert Kept.read(kept.written()) == kept
        assert not kept.is_pressed_since(2), "only news came"
        assert kept.is_pressed_since(3), "whatever triggered the question"
    assert Kept.read(None) is None


def test_a_press_of_look_that_reaches_the_server_as_news_asks_anew(tmp_path: Path) -> None:
    site, asked = Site(folder=tmp_path), asked_about(make_series(), CandleStore(tmp_path / "store"))
    kept = Kept(asked=asked, clicks=0).written()
    chosen = {"vision-symbol": asked.symbol, "vision-timeframe": asked.timeframe.name, "vision-model": "the one in use"}
    outputs = {"vision-asked": "data", "vision-news": "children", "vision-follow": "children"}

    def answer(clicks: int) -> Any:  # JSON
        values = [("vision-look", "n_clicks", clicks), *((each, "value", value) for each, value in chosen.items())]
        values += [("vision-follow", "n_clicks", None), ("live", "data", {"candles": "new"})]
        body = {
            "output": f"..{'...'.join(f'{each}.{part}' for each, part in outputs.items())}..",
            "outputs": [{"id": each, "property": part} for each, part in outputs.items()],
            "inputs": [{"id": id_, "property": part, "value": value} for id_, part, value in values],
            "state": [{"id": "vision-asked", "property": "data", "value": kept}],
            "changedPropIds": ["live.data"],
        }
        answered = httpx.post(f"{site.url}/_dash-update-component", json=body, trust_env=False, timeout=60.0)
        return answered.raise_for_status().json()["response"]

    site.start()
    try:
        assert "vision-asked" not in answer(clicks=0), "only news"
        assert answer(clicks=1)["vision-asked"]["data"]["clicks"] == 1
    finally:
        site.stop()


def test_a_service_that_is_gone_is_said_and_asked_again(tmp_path: Path) -> None:
    store = CandleStore(tmp_path)
    asked = asked_about(make_series(), store)
    server = ForecastServer(pipeline=make_pipeline(), port=free_port())
    with ForecastClient(server.url, "", retries=0) as client:
        looks = AskedForecasts(client, store, Clock().now)
        with pytest.raises(ForecastUnavailable, match="does not answer"):
            looks.look(asked)
        server.start()
        assert looks.look(asked).forecast.model_version == "untrained"
    server.stop()


def test_an_answer_without_pictures_is_no_answer(tmp_path: Path) -> None:
    store = CandleStore(tmp_path)
    asked = asked_about(make_series(), store)
    with (
        api_server() as server,
        ForecastClient(server.url, "", retries=0) as client,
        pytest.raises(UnexpectedAnswer, match="without pictures"),
    ):
        AskedForecasts(client, store, Clock().now).look(asked)


def test_the_newest_close_is_known_as_soon_as_it_is_stored(tmp_path: Path) -> None:
    store, window = CandleStore(tmp_path), make_series()
    looks = AskedForecasts(ForecastClient("http://127.0.0.1:1", ""), store, Clock().now)
    assert looks.newest_close(window.symbol, window.timeframe) is None
    store.append(window.slice(0, 99))
    assert looks.newest_close(window.symbol, window.timeframe) == to_datetime(window.close_times[98])
    store.append(window)
    assert looks.newest_close(window.symbol, window.timeframe) == to_datetime(window.close_times[99])


@pytest.mark.parametrize(
    "written", [{}, {"symbol": "EURUSD"}, {"symbol": 1, "timeframe": [], "model": None, "until": "x", "pressed_at": 3}]
)
def test_what_no_page_of_ours_has_kept_counts_as_nothing(written: dict[str, object]) -> None:
    assert Kept.read(written) is None
