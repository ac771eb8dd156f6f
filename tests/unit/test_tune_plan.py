"""What of a search is refused before anything is computed, its folds, and what its identity is made of."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fxcast.data.store import CandleStore
from fxcast.domain.candle import to_datetime64
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadSetting
from fxcast.models.baselines.folder import Seen, save_opponent
from fxcast.models.baselines.time_of_day import TimeOfDayWalk
from jobs.tune_parameters import largest_samples, shortest_interval
from jobs.tune_plan import TunePlan, plan_tune
from tests.factories import make_series
from tests.tune_job_factories import SPACE, TRADING, make_settings

START = datetime(2017, 3, 6, tzinfo=UTC)
STOP = datetime(2017, 5, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store of one pair, from the first of March on, an hour a candle without gaps."""
    root = str(tmp_path_factory.mktemp("store"))
    CandleStore(root).append(make_series(bars=24 * 70))
    return root


def planned(store: str, folder: Path, *options: str, **changes: Any) -> TunePlan:
    return plan_tune(make_settings(store, folder, *options, **changes))


def put_model(folder: Path, seen_until: datetime) -> None:
    """Save a model that has learned from candles up to a moment."""
    sizes = np.tile(np.linspace(0.01, 3.0, 199), (24, 2, 1))
    walk = TimeOfDayWalk(timeframe=Timeframe("1h"), horizons_minutes=(240, 960), model_version="mine", sizes=sizes)
    seen = Seen(symbols=("EURUSD",), start=datetime(2016, 1, 1, tzinfo=UTC), end=seen_until, data_hash="0")
    save_opponent(walk, folder, seen=seen, card="# mine\n")


def test_folds_follow_each_other_and_the_last_is_held_out(store: str, tmp_path: Path) -> None:
    plan = planned(store, tmp_path)
    two_weeks = timedelta(days=14)
    assert plan.folds == tuple((START + n * two_weeks, START + (n + 1) * two_weeks) for n in range(3))
    assert plan.hold_out == (START + 3 * two_weeks, STOP)
    held = planned(store, tmp_path, hold_out_folds=2)
    assert (held.folds, held.hold_out) == (plan.folds[:2], (plan.folds[2][0], STOP))
    assert planned(store, tmp_path, max_folds=3).hold_out == (plan.folds[2][0], plan.folds[2][1])


def test_less_than_half_a_fold_at_the_end_belongs_to_the_last(store: str, tmp_path: Path) -> None:
    shorter = planned(store, tmp_path, stop=(STOP + timedelta(days=6)).isoformat())
    assert (len(shorter.folds), shorter.hold_out[1]) == (3, STOP + timedelta(days=6))
    longer = planned(store, tmp_path, stop=(STOP + timedelta(days=7)).isoformat())
    assert (len(longer.folds), longer.hold_out) == (4, (STOP, STOP + timedelta(days=7)))


def test_the_embargo_lies_between_the_last_fold_and_the_hold_out(store: str, tmp_path: Path) -> None:
    plan = planned(store, tmp_path, embargo_bars=30)
    assert plan.stop == STOP - timedelta(days=14)
    assert plan.hold_out == (plan.stop + timedelta(hours=30), STOP)
    with pytest.raises(BadSetting, match="embargo_bars: found 400; allowed: fewer than the hold-out has candles"):
        planned(store, tmp_path, embargo_bars=400)


def test_trials_are_given_no_candle_behind_their_last_fold(store: str, tmp_path: Path) -> None:
    plan = planned(store, tmp_path)
    (candles,) = plan.data.series.values()
    everything = CandleStore(store).read("EURUSD", Timeframe("1h"))
    assert candles.close_times[-1] < to_datetime64(plan.stop) <= everything.close_times[len(candles)]


def test_candles_of_the_hold_out_are_part_of_what_a_search_is(store: str, tmp_path: Path) -> None:
    series = make_series(bars=24 * 70)
    values = series.values.copy()
    values[-400:, 4] += 1.0  # volumes
    other = tmp_path / "other"
    CandleStore(other).append(
        type(series)(symbol="EURUSD", timeframe=series.timeframe, open_times=series.open_times, values=values)
    )
    first, second = planned(store, tmp_path), planned(str(other), tmp_path)
    assert first.data_hash != second.data_hash
    assert first.content == second.content
    assert np.array_equal(first.data.series["EURUSD"].values, second.data.series["EURUSD"].values)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"test_days": 30}, r"test_days: found 30, which makes 2 folds of 2017-03-06 to 2017-05-01; allowed: at least 3, 1 of them"),
    ({"space": {}}, r"space: found no parameter; allowed: at least one"),
    ({"space": {"trading.min_qualty": {"low": 0.1, "high": 0.5}}}, r"space\.trading\.min_qualty: unknown path.*min_quality"),
    ({"space": {"tradin.min_quality": {"low": 0.1, "high": 0.5}}}, r"did you mean trading\.min_quality"),
    ({"space": {"trading.use_ldm4ts": {"choices": [True, False]}}}, r"space\.trading\.use_ldm4ts: can't be searched"),
    ({"space": {"sampler.steps": {"low": 2, "high": 8}}}, r"space\.sampler\.steps: needs level sampling, found trading"),
    ({"space": {"training.learning_rate": {"low": 1e-4, "high": 1e-2}}}, r"needs level model, found trading"),
    (
        {"space": {"trading.min_quality": {"low": 0.3, "high": 0.5}}},
        r"space\.trading\.min_quality: the default, 0\.2, is not in 0\.3 to 0\.5",
    ),
    ({"space": {"trading.min_quality": {"low": 0.1, "high": 1.5}}}, r"space\.trading\.min_quality: 1\.5 is refused"),
    (
        {"space": {"trading.ldm4ts_horizons": {"choices": [[240, 960], [240, 3840]]}}},
        r"space\.trading\.ldm4ts_horizons: \[240, 3840\] is refused: \[3840\] minutes; the model knows \[240, 960\]",
    ),
    ({"separately": True}, r"separately: found true; allowed: false"),
    ({"regime": "volatile"}, r"space\.trading\.ldm4ts_num_samples: .*found it with regime volatile; allowed: without a regime"),
    (
        {"regime": "volatile", "space": {"trading.risk.cool_off_losses": {"low": 1, "high": 9}}},
        r"space\.trading\.risk\.cool_off_losses: .*which is the account's",
    ),
    (
        {"space": {"trading.forecast_interval_bars": {"choices": [8, 12]}}},
        r"space\.trading\.forecast_interval_bars: found 12 beside 8; allowed: multiples of the shortest",
    ),
    ({"objective": {"kind": "pareto"}, "searcher": "random"}, r"searcher: found random, with objective\.kind pareto; allowed: tpe"),
    ({"level": "model"}, r"refit: found none, with level model; allowed: scratch"),
    ({"level": "sampling", "trading": {**TRADING, "use_ldm4ts": False}}, r"level: found sampling, with trading\.use_ldm4ts off"),
    ({"stop": "2017-03-01T00:00:00Z"}, r"stop: found 2017-03-01T00:00:00\+00:00; allowed: later than the start"),
    ({"start": None}, r"start: found none, and no model whose candles would say it"),
    ({"model": "no-such-model"}, r"model: found 'no-such-model'"),
    ({"params": "best"}, r"params: found best|database"),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED, ids=[words[:40] for _, words in REFUSED])
def test_what_cannot_be_searched_is_refused_by_name(store: str, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(Exception, match=words) as refusal:
        planned(store, tmp_path, **changes)
    assert type(refusal.value).__module__ == "fxcast.errors"


def test_folds_without_candles_are_refused(store: str, tmp_path: Path) -> None:
    with pytest.raises(BadCandles, match="none of EURUSD that could be traded in the fold from 2017-02-01 to 2017-02-15"):
        planned(store, tmp_path, start="2017-02-01T00:00:00Z")


def test_a_model_that_has_seen_the_period_is_refused_and_forced_it_is_told(store: str, tmp_path: Path) -> None:
    put_model(tmp_path / "mine", datetime(2017, 3, 20, tzinfo=UTC))
    model = str(tmp_path / "mine")
    with pytest.raises(BadSetting, match="mine was trained and validated on candles up to 2017-03-20"):
        planned(store, tmp_path, model=model)
    forced = planned(store, tmp_path, model=model, force=True)
    assert forced.warnings[0].startswith("mine has learned from candles up to 2017-03-20")
    after = planned(store, tmp_path, model=model, start="2017-03-20T00:00:00Z", test_days=10)
    assert after.warnings == ()


CHANGES: list[dict[str, Any]] = [
    {"trials": 9},
    {"random_trials": 3},
    {"seed": 1},
    {"searcher": "gp"},
    {"generation": 3},
    {"regime": "volatile", "space": {"trading.min_quality": {"low": 0.1, "high": 0.5}}},
    {"space": {**SPACE, "trading.ldm4ts_min_strength": {"low": 0.05, "high": 0.41}}},
    {"trading": {**TRADING, "min_quality": 0.25}},
    {"market": {"candle_side": "ask", "spread_pips": 1.1}},
    {"objective": {"min_trades_per_fold": 5}},
    {"objective": {"weights": {"drawdown": 4}}},
    {"pruning": {"rule": "none"}},
    {"guard": {"max_overfitting": 0.2}},
    {"patience": 5},
    {"max_hours": 1.0},
    {"draws": 200},
    {"embargo_bars": 1},
    {"test_days": 13},
    {"start": "2017-03-07T00:00:00Z"},
    {"stop": "2017-04-30T00:00:00Z"},
    {"spreads": "stated"},
    {"inner_candles": False},
    {"model": "mine"},
]


@pytest.mark.parametrize("changes", CHANGES, ids=", ".join)
def test_what_can_change_the_outcome_makes_another_search(store: str, tmp_path: Path, changes: dict[str, Any]) -> None:
    if "model" in changes:
        put_model(tmp_path / "mine", datetime(2017, 1, 1, tzinfo=UTC))
        changes = {"model": str(tmp_path / "mine")}
    plan, other = planned(store, tmp_path), planned(store, tmp_path, **changes)
    assert plan.settings_hash != other.settings_hash


def test_where_things_lie_and_how_fast_it_goes_change_nothing(store: str, tmp_path: Path) -> None:
    plan = planned(store, tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    CandleStore(elsewhere / "store").append(make_series(bars=24 * 70))
    free = {
        "concurrency": 1,
        "actors": 3,
        "batch_windows": 4,
        "max_failures": 0,
        "resume": True,
        "forecasts": str(elsewhere / "forecasts"),
        "tunes": str(elsewhere / "tune"),
        "database_url": f"sqlite:///{elsewhere / 'records.db'}",
        "models": str(elsewhere / "models"),
        "train_workers": "2",
    }
    other = planned(str(elsewhere / "store"), elsewhere, **free)
    assert other.content == plan.content
    assert other.data_hash == plan.data_hash
    assert str(elsewhere) not in other.content
    assert json.loads(plan.content)["models"]["own"]


def test_forecasts_are_made_for_the_largest_count_and_the_shortest_interval(store: str, tmp_path: Path) -> None:
    space = {
        "trading.ldm4ts_num_samples": {"choices": [10, 20, 40]},
        "trading.forecast_interval_bars": {"low": 4, "high": 16, "step": 4},
    }
    settings = planned(store, tmp_path, space=space).settings
    assert (largest_samples(settings), shortest_interval(settings)) == (40, 4)
    plain = make_settings(store, tmp_path)
    assert (largest_samples(plain), shortest_interval(plain)) == (20, 12)


def test_the_defaults_are_those_of_the_settings(store: str, tmp_path: Path) -> None:
    assert planned(store, tmp_path).defaults == {
        "trading.ldm4ts_min_strength": 0.3,
        "trading.ldm4ts_num_samples": 20,
        "trading.management.stop_multiple": 1.0,
        "trading.sizing.risk_per_trade_pct": 0.5,
    }
