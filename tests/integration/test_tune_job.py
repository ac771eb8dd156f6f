"""jobs.tune at level trading on a real Ray cluster: what trials see, what they share, and that they can be run again."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from sqlalchemy import create_engine, text

from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries, to_datetime64
from fxcast.performance.daily import daily_curve
from fxcast.tuning.trial import FoldScore, Trial
from jobs.backtest import BacktestJob, plan_backtest
from jobs.backtest_run import run_period
from jobs.tune import main, rerun
from tests.tune_job_factories import TRADING, Done, make_settings, searched, unseen

pytestmark = pytest.mark.usefixtures("dashboard_url")


@pytest.fixture(scope="module")
def done(dashboard_url: str, store: str, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A search of eight trials."""
    assert dashboard_url
    return searched(make_settings(store, tmp_path_factory.mktemp("done")))


def bits(trials: tuple[Trial, ...]) -> list[tuple[Any, ...]]:
    return [(each.number, dict(each.values), each.state, each.measures, list(map(_fold_bits, each.folds))) for each in trials]


def _fold_bits(fold: FoldScore) -> tuple[Any, ...]:
    curve = fold.curve
    arrays = [each.tobytes() for each in (curve.days, curve.returns, curve.lows, curve.highs, curve.falls)]
    return (fold.fold, fold.trades, fold.horizons, *arrays)


def test_other_prices_in_the_hold_out_change_nothing_but_its_figures(done: Done, series: CandleSeries, tmp_path: Path) -> None:
    first = int(np.searchsorted(series.close_times, to_datetime64(done.plan.hold_out[0])))
    values = series.values.copy()
    # As if every move since then had gone the other way, and twice as far.
    values[first:, :4] = (values[first - 1, 3] ** 3 / values[first:, :4] ** 2)[:, [0, 2, 1, 3]]
    changed = CandleSeries(symbol=series.symbol, timeframe=series.timeframe, open_times=series.open_times, values=values)
    CandleStore(tmp_path / "store").append(changed)
    other = searched(make_settings(str(tmp_path / "store"), tmp_path))

    assert other.plan.data_hash != done.plan.data_hash
    assert bits(other.findings.trials) == bits(done.findings.trials)
    assert bits(other.findings.random_trials) == bits(done.findings.random_trials)
    assert other.findings.winner == done.findings.winner
    assert other.findings.overfitting == done.findings.overfitting
    assert other.findings.robustness == done.findings.robustness
    ours, theirs = (each.findings.hold_out[0].equity.equity for each in (done, other))
    assert ours.tolist() != theirs.tolist()
    assert sum(each.measures.trades for each in done.findings.trials if each.measures is not None) > 50, "there is something to see"


def test_the_candles_of_trials_end_with_the_last_fold(done: Done) -> None:
    (candles,) = done.plan.data.series.values()
    assert candles.close_times[-1] < to_datetime64(done.plan.stop)
    assert done.plan.stop <= done.plan.hold_out[0]
    for prepared, (_, stop) in zip(done.shared.prepared, done.plan.folds, strict=True):
        assert prepared is not None
        assert prepared.symbols["EURUSD"].closed_at[-1] < stop.timestamp()


def test_trials_compute_no_forecast(done: Done, store: str, tmp_path: Path) -> None:
    assert (done.shared.computed, done.shared.reused) == (0, sum(map(_windows, done.shared.prepared)))
    files = sorted(path.name for path in Path(done.plan.settings.forecasts).rglob("*.parquet"))
    more = make_settings(store, tmp_path, name="more", seed=5, forecasts=done.plan.settings.forecasts)
    again = searched(more)
    assert sorted(path.name for path in Path(done.plan.settings.forecasts).rglob("*.parquet")) == files
    samples = {each.values["trading.ldm4ts_num_samples"] for each in (*done.findings.trials, *again.findings.trials)}
    assert samples == {10, 20}
    assert {path.parent.parent.name for path in Path(done.plan.settings.forecasts).rglob("*.parquet")} == {
        "h240-960.n20.symbol-moment"
    }


def _windows(prepared: Any) -> int:
    return sum(len(each.closed_at) for each in prepared.symbols.values())


def test_a_fold_of_a_trial_is_a_backtest_with_its_values(done: Done, store: str, tmp_path: Path) -> None:
    # A backtest computes as many samples as it trades on, and the random walk's horizons would draw others: as many as there are.
    trial = max(
        (each for each in done.findings.trials if each.values["trading.ldm4ts_num_samples"] == 20 and each.number),
        key=lambda each: 0 if each.measures is None else each.measures.trades,
    )
    trading = {
        **TRADING,
        "ldm4ts_min_strength": trial.values["trading.ldm4ts_min_strength"],
        "management": {"stop_multiple": trial.values["trading.management.stop_multiple"]},
        "sizing": {"risk_per_trade_pct": trial.values["trading.sizing.risk_per_trade_pct"]},
    }
    for number, (start, stop) in enumerate(done.plan.folds, start=1):
        content = {
            "store": store,
            "timeframe": "1h",
            "model": "random-walk",
            "start": start.isoformat(),
            "stop": stop.isoformat(),
            "trading": trading,
            "market": {"candle_side": "ask"},
            "benchmarks": [],
            "forecasts": str(tmp_path / "forecasts"),
            "database_url": f"sqlite:///{tmp_path / 'absent.db'}",
        }
        config = tmp_path / "backtest.yaml"
        config.write_text(yaml.safe_dump(content))
        plan = plan_backtest(BacktestJob.parse(["--config", str(config)]))
        result = run_period(plan.settings, plan.data, plan.models, start, stop, show=unseen).results["strategy"]
        fold = trial.folds[number - 1]
        curve = daily_curve(result.equity.times, result.equity.equity, float(result.starting_balance))
        assert fold.curve.days.tolist() == curve.days.tolist()
        assert fold.curve.returns.tolist() == curve.returns.tolist()
        assert fold.trades == sum(each.closed_at is not None for each in result.positions) > 0


def test_a_trial_that_is_run_again_gives_the_same_number(
    done: Done, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.tune.ray_session", _Connected)
    config = done.plan.settings.tunes.parent / "tune.yaml"
    best = done.findings.winner
    assert main(["--config", str(config), "--rerun", str(best)]) == 0
    assert "the same" in capsys.readouterr().out
    assert main(["--config", str(config), "--rerun", "99"]) == 2
    assert "rerun: found 99; allowed: a trial of short that was run, 0 to 7" in capsys.readouterr().err.replace("\n", " ")
    assert main(["--config", str(config), "--name", "other", "--rerun", "0"]) == 2
    assert "there is no search" in capsys.readouterr().err

    kept, again = rerun(done.plan, done.record, best, show=unseen)
    assert kept.measures is not None
    assert again.measures is not None
    assert again.measures.score == kept.measures.score
    assert again.daily_returns.tolist() == kept.daily_returns.tolist()

    engine = create_engine(done.plan.settings.database_url)
    change = "UPDATE tuning_trials SET score = score + :by WHERE kind = 'search' AND number = :number"
    with engine.begin() as connection:
        connection.execute(text(change), {"by": 0.001, "number": best})
    try:
        assert main(["--config", str(config), "--rerun", str(best)]) == 1
        assert "NOT the same" in capsys.readouterr().out
    finally:
        with engine.begin() as connection:
            connection.execute(text(change), {"by": -0.001, "number": best})
    days = np.array(kept.folds[0].curve.returns)
    days[0] += 1e-4
    fold = "UPDATE tuning_folds SET returns = :days WHERE kind = 'search' AND number = :number AND fold = 1"
    with engine.begin() as connection:
        connection.execute(text(fold), {"days": days.astype("<f8").tobytes(), "number": best})
    assert main(["--config", str(config), "--rerun", str(best)]) == 1
    with engine.begin() as connection:
        connection.execute(text(fold), {"days": kept.folds[0].curve.returns.astype("<f8").tobytes(), "number": best})
    engine.dispose()


class _Connected:
    """Stands where a session of its own would begin: the tests' cluster is there."""

    def __init__(self, **_: object) -> None: ...

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def test_report_json_trials_and_database_agree(done: Done) -> None:
    folder = done.plan.settings.folder
    told = json.loads((folder / "findings.json").read_text())
    run = done.record.records.run("short")
    assert run is not None
    assert run.status == "finished"
    assert json.loads(run.findings or "") == told
    assert (run.winner, run.verdict, run.promotes) == (told["winner"], told["verdict"], told["promotes"])
    assert run.overfitting_probability == told["overfitting"]["probability"]
    winner = next(each for each in told["trials"] if each["number"] == run.winner)
    assert run.winner_values == {path: winner["values"][path] for path in run.winner_values or {}}

    rows = {(row["kind"], row["number"]): row for row in pq.read_table(folder / "trials.parquet").to_pylist()}
    written = [("search", each) for each in told["trials"]] + [("random", each) for each in told["random_trials"]]
    kept = {(each.kind, each.number): each for each in done.record.records.trials(run.id) if each.kind != "neighbour"}
    assert list(rows) == [(kind, each["number"]) for kind, each in written]
    assert set(rows) == set(kept)
    for kind, each in written:
        row, record = rows[kind, each["number"]], kept[kind, each["number"]]
        assert row["state"] == each["state"] == record.state
        assert row["score"] == each["measures"]["score"] == record.score
        assert row["sharpe"] == each["measures"]["sharpe"] == record.sharpe
        assert row["trades"] == each["measures"]["trades"] == record.trades == sum(fold.trades for fold in record.folds)
        assert row["folds"] == len(each["folds"]) == len(record.folds)
        assert record.began_at < (record.finished_at or record.began_at)

    page = html.unescape((folder / "report.html").read_text())
    assert page.split("<main>")[1].lstrip().startswith(f'<h1 class="verdict">{told["verdict"]}</h1>')
