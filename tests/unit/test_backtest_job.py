"""What a backtest refuses before anything is computed, each in one sentence with exit code 2."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from fxcast.data.store import CandleStore
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadSetting
from fxcast.models.baselines.folder import Seen, save_opponent
from fxcast.models.baselines.time_of_day import TimeOfDayWalk
from jobs.backtest import BacktestJob, main, plan_backtest
from jobs.backtest_candles import open_store
from jobs.backtest_record import settings_content
from jobs.backtest_settings import renamed
from tests.factories import make_series

SEEN = datetime(2017, 4, 1, tzinfo=UTC)
HOURLY = ("--trading.ldm4ts-horizons", "[240]")
FROM, TO = "2017-03-20T00:00:00Z", "2017-04-20T00:00:00Z"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    CandleStore(tmp_path / "store").append(make_series(bars=1_500, seed=4))
    return tmp_path / "store"


def settings(store: Path, *options: str, model: str = "random-walk", horizons: str = "[240,960]") -> BacktestJob:
    given = ["--store", str(store), "--database-url", f"sqlite:///{store.parent / 'none.db'}", "--model", model]
    given += ["--trading.ldm4ts-horizons", horizons, "--benchmarks", '["no-scaling","random-walk","buy-and-hold"]']
    return BacktestJob.parse([*given, *renamed(options)])


def learned(tmp_path: Path) -> Path:
    """A model, fitted by hand, that says that it has seen candles up to `SEEN`."""
    sizes = np.tile(np.linspace(0.01, 3.0, 199), (24, 2, 1))
    walk = TimeOfDayWalk(timeframe=Timeframe("1h"), horizons_minutes=(240, 960), model_version="mine", sizes=sizes)
    seen = Seen(symbols=("EURUSD",), start=datetime(2017, 3, 1, tzinfo=UTC), end=SEEN, data_hash="0")
    save_opponent(walk, tmp_path / "model", seen=seen, card="# mine\n")
    return tmp_path / "model"


def test_from_and_to_are_start_and_stop(store: Path) -> None:
    found = settings(store, "--from", FROM, f"--to={TO}")
    assert (found.start, found.stop) == (datetime(2017, 3, 20, tzinfo=UTC), datetime(2017, 4, 20, tzinfo=UTC))


def test_period_is_the_one_asked_for_and_nothing_later_is_read(store: Path) -> None:
    plan = plan_backtest(settings(store, "--from", FROM, "--to", TO))
    series = plan.data.series["EURUSD"]
    assert series.close_time(len(series) - 1) < plan.stop == datetime(2017, 4, 20, tzinfo=UTC)
    assert plan.warnings == ()


def test_a_period_without_candles_is_named_with_what_the_store_holds(store: Path) -> None:
    with pytest.raises(BadCandles, match=r"none of EURUSD 1h from 2019-01-01.*holds 2017-03-01 00:00 to 2017-05-02 12:00"):
        plan_backtest(settings(store, "--from", "2019-01-01T00:00:00Z", "--to", "2019-02-01T00:00:00Z"))


def test_an_unknown_symbol_is_named_with_those_that_the_store_has(store: Path) -> None:
    with pytest.raises(BadCandles, match=r"AUDNZD"):
        plan_backtest(settings(store, "--symbols", "AUDNZD", "--from", FROM))


def test_a_word_that_is_no_pair_is_named(store: Path) -> None:
    with pytest.raises(BadSetting, match="eurusd: not six capital letters, as in EURUSD"):
        settings(store, "--symbols", "eurusd")


def test_an_end_before_the_start_is_refused(store: Path) -> None:
    with pytest.raises(BadSetting, match=r"stop: found 2017-03-10.*allowed: later than the start, 2017-03-20"):
        plan_backtest(settings(store, "--from", FROM, "--to", "2017-03-10T00:00:00Z"))


def test_without_a_model_that_says_where_to_begin_a_start_is_asked_for(store: Path) -> None:
    with pytest.raises(BadSetting, match="start: found none, and no model whose candles would say it"):
        plan_backtest(settings(store))


def test_candles_of_another_side_than_the_market_says_are_refused(tmp_path: Path) -> None:
    database = ["--database-url", f"sqlite:///{tmp_path}/none.db"]  # not the one that a developer has here
    sample = BacktestJob.parse(
        ["--sample", "--start", FROM, "--market.candle-side", "bid", "--model", "random-walk", *HOURLY, *database]
    )
    with pytest.raises(BadSetting, match=r"market.candle_side: found bid; the EURUSD candles of the store are ask prices"):
        plan_backtest(sample)


def test_an_unknown_key_is_named_with_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "backtest.yaml"
    config.write_text("trading:\n  min_qualty: 0.3\n")
    assert main(["--config", str(config)]) == 2
    assert "unknown key 'trading.min_qualty'; did you mean 'min_quality'?" in capsys.readouterr().err


def test_a_benchmark_that_does_not_exist_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--benchmarks", '["luck"]']) == 2
    assert "benchmarks.0: found 'luck'" in capsys.readouterr().err


def test_a_horizon_that_the_model_lacks_is_named(store: Path, tmp_path: Path) -> None:
    plan = settings(store, "--from", "2017-04-10T00:00:00Z", model=str(learned(tmp_path)), horizons="[120,240]")
    with pytest.raises(BadSetting, match=r"trading.ldm4ts_horizons: found \[120\]; mine \(own\) knows \[240, 960\] minutes"):
        plan_backtest(plan)


def test_a_horizon_that_is_no_whole_number_of_candles_is_named(store: Path) -> None:
    with pytest.raises(BadSetting, match=r"trading.ldm4ts_horizons: found \[15\]; allowed: multiples of a candle, 60 minutes"):
        plan_backtest(settings(store, "--from", FROM, horizons="[15,60]"))


def test_a_period_that_the_model_has_learned_from_is_refused(store: Path, tmp_path: Path) -> None:
    asked = settings(store, "--from", FROM, model=str(learned(tmp_path)))
    with pytest.raises(BadSetting, match=r"start: found 2017-03-20.*but mine was trained and validated on .* up to 2017-04-01"):
        plan_backtest(asked)


def test_a_period_that_was_learned_from_may_be_forced_and_is_said_to_be_worth_nothing(store: Path, tmp_path: Path) -> None:
    plan = plan_backtest(settings(store, "--from", FROM, "--force", model=str(learned(tmp_path))))
    assert plan.origin.seen_by_model
    (warning,) = plan.warnings
    assert warning.startswith("mine has learned from candles up to 2017-04-01 00:00 UTC, and candles before that are traded here")


def test_without_a_start_it_begins_where_the_model_has_seen_nothing(store: Path, tmp_path: Path) -> None:
    assert plan_backtest(settings(store, model=str(learned(tmp_path)))).start == SEEN


def test_a_timeframe_without_a_shipped_model_is_named(store: Path) -> None:
    CandleStore(store).append(make_series(bars=300, timeframe="5m"))
    asked = settings(store, "--timeframe", "5m", "--from", "2017-03-01T12:00:00Z", model="shipped", horizons="[15]")
    with pytest.raises(BadSetting, match="model: found shipped, and fxcast ships none of 5m candles"):
        plan_backtest(asked)


def test_the_packaged_sample_is_put_into_a_store_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(BacktestJob.parse(["--sample"]))
    again = open_store(BacktestJob.parse(["--sample"]))
    assert [str(each) for each in store.timeframes("EURUSD")] == [str(each) for each in again.timeframes("EURUSD")] == ["1h"]
    assert (tmp_path / "runs" / "sample" / "EURUSD").is_dir()


def test_what_changes_the_outcome_names_the_settings_and_nothing_else_does(store: Path) -> None:
    one = settings(store, "--from", FROM)
    elsewhere = settings(store, "--from", FROM, "--output", "elsewhere", "--draws", "200", "--actors", "1")
    other = settings(store, "--from", FROM, "--trading.min-quality", "0.3")
    costlier = settings(store, "--from", FROM, "--market.slippage-pips", "0.5")
    contents = [settings_content(each, "hash") for each in (one, elsewhere, other, costlier)]
    assert contents[0] == contents[1]
    assert len({*contents, settings_content(one, "another model")}) == 4
