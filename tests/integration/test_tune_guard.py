"""What is asked of the best trial of a search on a real Ray cluster: all trials count, and every look at the hold-out is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from fxcast.adapters.storage.backtests import BacktestRecords
from fxcast.adapters.storage.database import open_database
from fxcast.backtest.engine import BacktestEngine, BacktestSetup
from fxcast.backtest.forecasts import PreparedService
from fxcast.domain.signal import FusedSignal, Regime
from fxcast.errors import BadSetup
from fxcast.training.config import TrainingConfig
from fxcast.tuning.strategy import traded_with
from fxcast.tuning.trial import TrialState
from jobs.backtest import main as backtest
from jobs.tune_record import other_sharpes
from tests.integration.training_run import SHORT
from tests.tune_job_factories import SPACE, TRADING, Done, kept, make_settings, searched

pytestmark = pytest.mark.usefixtures("dashboard_url")

NO_NUMBER = {path: each for path, each in SPACE.items() if path != "trading.ldm4ts_num_samples"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the searches of this file share a database."""
    return tmp_path_factory.mktemp("guard")


@pytest.fixture(scope="module")
def done(dashboard_url: str, store: str, folder: Path) -> Done:
    """The first search on the market."""
    assert dashboard_url
    return searched(make_settings(store, folder))


def test_stopped_trials_do_the_folds_that_they_lack_before_overfitting_is_told(done: Done) -> None:
    found = done.findings
    stopped = [each for each in (*found.trials, *found.random_trials) if each.state is TrialState.PRUNED]
    assert stopped, "there is something to complete"
    assert {len(each.folds) for each in stopped} == {len(done.plan.folds)}
    assert found.overfitting is not None
    assert found.overfitting.trials == len(found.trials) + len(found.random_trials) == found.counted_trials
    assert found.winner not in {each.number for each in found.trials if each.state is TrialState.PRUNED}


def test_neighbours_are_kept_as_such(done: Done) -> None:
    neighbours = kept(done.plan.settings, "neighbour")
    robustness = done.findings.robustness
    assert robustness is not None
    assert [(each.state, len(each.folds)) for each in neighbours] == [("complete", 3)] * len(robustness.neighbours)
    winner = next(each for each in done.findings.trials if each.number == done.findings.winner)
    for record, each in zip(neighbours, robustness.neighbours, strict=True):
        assert record.score == each.score
        assert dict(record.values) == {**winner.values, each.parameter: each.value}


def test_a_second_search_counts_the_trials_of_the_first_and_of_backtests_and_tells_of_its_look(
    done: Done, store: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("jobs.backtest.ray_session", _Connected)
    config = folder / "tune.yaml"
    given = ["--store", store, "--model", "random-walk", "--market.candle-side", "ask", "--benchmarks", "[]", "--draws", "100"]
    given += ["--database-url", done.plan.settings.database_url, "--forecasts", str(folder / "forecasts"), "--output", "backtest"]
    given += ["--trading.ldm4ts-horizons", "[240,960]", "--trading.forecast-interval-bars", "12"]
    assert backtest([*given, "--from", "2017-03-06T00:00:00Z", "--to", "2017-04-17T00:00:00Z"]) == 0
    assert config.exists()
    records = BacktestRecords(open_database(done.plan.settings.database_url))
    assert len(records.trial_sharpes(("EURUSD",), "1h", done.plan.start, done.plan.stop)) == 1

    second = searched(make_settings(store, folder, name="second", trials=2, random_trials=0, seed=1))
    assert len(other_sharpes(second.record)) == len(done.findings.trials) + len(done.findings.random_trials) + 1
    assert second.findings.counted_trials == len(second.findings.trials) + len(other_sharpes(second.record))
    assert any("1 earlier search has looked at candles of this hold-out" in each for each in second.findings.warnings)
    assert not any("earlier search" in each for each in done.findings.warnings)

    # The first hold-out's fold is among those that this one searches on, and the other way round nothing is.
    later = searched(
        make_settings(
            store, folder, name="earlier", trials=2, random_trials=0, start="2017-02-06T00:00:00Z", stop="2017-04-03T00:00:00Z"
        )
    )
    assert any("searched on before, by" in each and "short" in each for each in later.findings.warnings)


class _Connected:
    """Stands where a session of its own would begin: the tests' cluster is there."""

    def __init__(self, **_: object) -> None: ...

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def test_a_search_whose_trials_all_fail_says_why(store: str, tmp_path: Path) -> None:
    market = {"candle_side": "ask", "account_currency": "CHF"}  # no candles say what a franc is worth
    with pytest.raises(BadSetup, match=r"trials failed; the last, number \d: .*CHF"):
        searched(make_settings(store, tmp_path, market=market))
    assert {each.state for each in kept(make_settings(store, tmp_path, market=market))} == {"failed"}


def test_values_of_a_regime_leave_trades_in_the_others_as_they_are(done: Done) -> None:
    plan, shared = done.plan, done.shared
    start, stop = plan.folds[0]
    (prepared, *_) = shared.prepared
    assert prepared is not None
    lax, strict = {"trading.ldm4ts_min_strength": 0.05}, {"trading.ldm4ts_min_strength": 0.9}
    signals: dict[str, dict[str, FusedSignal]] = {}
    for name, values in {"default": {}, "lax": lax, "strict": strict}.items():
        trading = traded_with(plan.settings.trading, values, Regime.RANGING)
        setup = BacktestSetup(
            name=name,
            symbols=("EURUSD",),
            followed=("EURUSD",),
            start=start,
            stop=stop,
            trading=trading,
            market=plan.data.market,
        )
        result = BacktestEngine(setup, plan.data.series, forecasts=PreparedService(prepared.first(20))).run()
        signals[name] = {each.signal.signal_id: each.signal for each in result.signals}
    elsewhere = {
        name: {key: each for key, each in found.items() if each.regime is not Regime.RANGING} for name, found in signals.items()
    }
    assert len(elsewhere["default"]) > 3, "there is something to see"
    assert elsewhere["default"] == elsewhere["lax"] == elsewhere["strict"]
    ranging = {name: len(found) - len(elsewhere[name]) for name, found in signals.items()}
    assert ranging["strict"] < ranging["default"] < ranging["lax"]


@pytest.mark.long
def test_with_a_model_for_each_fold_the_hold_out_is_forecast_by_its_own(store: str, tmp_path: Path) -> None:
    training = TrainingConfig.model_validate({**dict(SHORT), "steps": 3})
    settings = make_settings(
        store,
        tmp_path,
        refit="scratch",
        start="2017-01-02T00:00:00Z",
        stop="2017-03-28T00:00:00Z",
        train_days=30,
        validation_days=15,
        test_days=10,
        max_folds=3,
        trials=2,
        random_trials=0,
        space=NO_NUMBER,
        sampler_steps=2,
        training=training.model_dump(mode="json"),
        trading={**TRADING, "ldm4ts_num_samples": 4},
    )
    found = searched(settings)
    walk = found.plan.walk
    assert walk is not None
    assert [each.test for each in walk.folds[:2]] == list(found.plan.folds)
    assert found.plan.hold_out[1] == walk.folds[2].test[1]
    assert [each.model_version for each in found.shared.prepared if each is not None] == [
        walk.model_name(each) for each in walk.folds[:2]
    ]
    assert walk.model_folder(walk.folds[2]).is_dir()
    assert [each.key for each in found.findings.hold_out] == ["winner", "default"]
    assert {len(each.folds) for each in found.findings.trials} == {2}
