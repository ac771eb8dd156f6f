"""The evaluation on a cluster: each forecast is computed once, and none knows what came after it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import ray.data

from fxcast.cluster.batch_forecast import (
    BatchForecasts,
    WindowRequest,
    Workers,
    batch_forecast,
    parameter_source,
    random_walk_source,
)
from fxcast.cluster.forecast_cache import ForecastCache
from fxcast.domain.candle import CandleSeries, FloatArray, to_datetime
from fxcast.domain.forecaster import WindowBatch
from fxcast.domain.timeframe import Timeframe
from fxcast.evaluation.rolling import rolling_ends
from fxcast.models.baselines.random_walk import RandomWalk
from fxcast.trading.forecasting import forecast_seed
from jobs.evaluate import EvaluateJob, evaluate, plan_evaluation
from tests.factories import make_series

pytestmark = pytest.mark.usefixtures("dashboard_url")

HOUR = Timeframe("1h")
HORIZONS = (240, 960)
START = datetime(2017, 3, 20, tzinfo=UTC)


def synthetic(symbol: str, *, bars: int = 2400, seed: int = 1) -> CandleSeries:
    return make_series(bars=bars, symbol=symbol, seed=seed)


def forecasts_of(
    series: Sequence[CandleSeries],
    cache: Path,
    stop: datetime,
    *,
    workers: Workers | None = None,
    horizons: tuple[int, ...] = HORIZONS,
) -> BatchForecasts:
    return batch_forecast(
        random_walk_source(HOUR, horizons),
        [WindowRequest(series=one, ends=rolling_ends(one, START, stop, step_bars=5)) for one in series],
        timeframe=HOUR,
        num_samples=20,
        cache=ForecastCache(cache),
        workers=workers or Workers(actors=2, batch_windows=16),
    )


def test_forecasts_of_the_cluster_are_those_of_this_process(tmp_path: Path) -> None:
    series, walk = synthetic("EURUSD"), RandomWalk(timeframe=HOUR, horizons_minutes=HORIZONS)
    stop = datetime(2017, 4, 10, tzinfo=UTC)
    (moves,) = forecasts_of([series], tmp_path, stop).moves
    ends = rolling_ends(series, START, stop, step_bars=5)
    for row in (0, 17, len(ends) - 1):
        window = series.slice(int(ends[row]) - 99, int(ends[row]) + 1)
        seed = forecast_seed("EURUSD", to_datetime(window.close_times[-1]))
        alone = walk.sample(WindowBatch.of(window), num_samples=20, seeds=[seed])[0]
        np.testing.assert_array_equal(moves[row], alone.astype(np.float32))


def test_a_second_run_computes_nothing_and_a_longer_period_only_what_is_new(tmp_path: Path) -> None:
    series = [synthetic("EURUSD"), synthetic("GBPUSD", seed=2)]
    first = forecasts_of(series, tmp_path, datetime(2017, 4, 10, tzinfo=UTC))
    assert (first.reused, first.computed) == (0, sum(len(moves) for moves in first.moves))
    files = set(tmp_path.rglob("*.parquet"))
    again = forecasts_of(series, tmp_path, datetime(2017, 4, 10, tzinfo=UTC))
    assert (again.computed, again.reused) == (0, first.computed)
    assert set(tmp_path.rglob("*.parquet")) == files
    longer = forecasts_of(series, tmp_path, datetime(2017, 5, 10, tzinfo=UTC))
    assert longer.reused == first.computed
    assert longer.computed == sum(len(moves) for moves in longer.moves) - first.computed > 0
    for short, long in zip(first.moves, longer.moves, strict=True):
        np.testing.assert_array_equal(long[: len(short)], short)


def test_other_candles_after_a_moment_change_no_stored_forecast_before_it(tmp_path: Path) -> None:
    series, stop = synthetic("EURUSD"), datetime(2017, 5, 1, tzinfo=UTC)
    first = forecasts_of([series], tmp_path, stop)
    at = int(np.searchsorted(series.close_times, np.datetime64("2017-04-12T00:00:00"), side="right"))
    values = series.values.copy()
    values[at:, :4] *= 1.5  # a jump, and another level ever after
    other = CandleSeries(symbol="EURUSD", timeframe=HOUR, open_times=series.open_times, values=values)
    ends = rolling_ends(series, START, stop, step_bars=5)
    before = ends < at
    for cache in (tmp_path, tmp_path / "fresh"):  # as stored, and as computed anew without a look at what is stored
        second = forecasts_of([other], cache, stop)
        np.testing.assert_array_equal(second.moves[0][before], first.moves[0][before])
    reused = forecasts_of([other], tmp_path, stop)
    assert reused.computed == 0  # both series' forecasts are there now
    jumped = before.sum() + np.arange((ends[~before] - at < 99).sum())
    assert not np.array_equal(second.moves[0][jumped], first.moves[0][jumped])


class StoppedByUser(Exception):  # noqa: N818  # what it stands for is no error
    """Ctrl-C, in a kind that pytest lets a test expect."""


def test_a_run_that_is_stopped_goes_on_with_the_months_that_were_complete(tmp_path: Path) -> None:
    series = synthetic("EURUSD")
    ends = rolling_ends(series, datetime(2017, 3, 24, tzinfo=UTC), datetime(2017, 4, 10, tzinfo=UTC), step_bars=1)
    march = 8 * 24  # hours, which is one block of eight batches

    def run(show: Callable[[int, int], None] | None = None) -> BatchForecasts:
        return batch_forecast(
            random_walk_source(HOUR, HORIZONS),
            [WindowRequest(series=series, ends=ends)],
            timeframe=HOUR,
            num_samples=20,
            cache=ForecastCache(tmp_path),
            workers=Workers(actors=1, batch_windows=24),
            show=show,
        )

    def stop_after_march(done: int, total: int) -> None:
        if march <= done < total:
            raise StoppedByUser

    with pytest.raises(StoppedByUser):
        run(stop_after_march)
    assert [path.name[:7] for path in tmp_path.rglob("*.parquet")] == ["2017-03"]
    assert run().reused == march


def test_a_model_folder_is_evaluated_against_the_random_walk_twice_and_forecast_once(
    tmp_path: Path, store: str, model_folder: Path
) -> None:
    settings = EvaluateJob.parse(
        [
            *("--model", str(model_folder), "--store", store, "--forecasts", str(tmp_path / "forecasts")),
            *("--database-url", f"sqlite:///{tmp_path / 'none.db'}", "--num-samples", "10", "--step-bars", "24"),
            *("--start", "2017-10-01T00:00:00Z", "--stop", "2017-11-15T00:00:00Z", "--horizons", "[240,960]", "--actors", "1"),
        ]
    )
    evaluation, forecasts = evaluate(settings, plan_evaluation(settings))
    assert {name: one.reused for name, one in forecasts.items()} == {"random": 0, "random-walk": 0}
    again, repeated = evaluate(settings, plan_evaluation(settings))
    assert {name: one.computed for name, one in repeated.items()} == {"random": 0, "random-walk": 0}
    assert json.dumps(evaluation.to_dict()) == json.dumps(again.to_dict())
    assert "Nothing says what" in evaluation.warnings[0]
    scores = evaluation.to_dict()["symbols"]["EURUSD"]["horizons"]["240"]
    assert scores["opponents"]["random-walk"]["against"]["diebold_mariano"]["forecasts"] == scores["model"]["forecasts"] > 20


@dataclass(frozen=True, kw_only=True)
class SlowWalk(RandomWalk):
    """A random walk that takes its time over each batch."""

    def sample(self, windows: WindowBatch, *, num_samples: int, seeds: Sequence[int]) -> FloatArray:
        time.sleep(8.0)  # longer than the patience that the test gives Ray
        return super().sample(windows, num_samples=num_samples, seeds=seeds)


def test_a_slow_model_is_waited_for_however_long_a_block_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ray.data.DataContext.get_current()
    monkeypatch.setattr(context, "execution_no_progress_timeout_s", 2)
    series = synthetic("EURUSD")
    made = batch_forecast(
        parameter_source(SlowWalk(timeframe=HOUR, horizons_minutes=HORIZONS), parameters="slow"),
        [WindowRequest(series=series, ends=np.array([400, 401]))],
        timeframe=HOUR,
        num_samples=20,
        cache=ForecastCache(tmp_path),
        workers=Workers(actors=1),
    )
    assert made.computed == 2
    assert context.execution_no_progress_timeout_s == 2, "who else uses Ray Data here keeps their patience"
