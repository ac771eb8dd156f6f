"""Backtests by their command, on a real cluster: forecasts once, rows in the database, trials counted, warnings in red."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fxcast.adapters.storage.backtests import BacktestRecords
from fxcast.adapters.storage.database import migrate, open_database
from fxcast.data.store import CandleStore
from fxcast.domain.timeframe import Timeframe
from fxcast.models.baselines.folder import Seen, save_opponent
from fxcast.models.baselines.time_of_day import TimeOfDayWalk
from jobs.backtest import main
from tests.factories import make_series

pytestmark = pytest.mark.usefixtures("joined_cluster", "home")

PERIOD = ("--from", "2017-03-20T00:00:00Z", "--to", "2017-04-20T00:00:00Z")


@pytest.fixture
def joined_cluster(dashboard_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job finds the tests' cluster, and leaves it running."""
    assert dashboard_url
    monkeypatch.setattr("jobs.backtest.ray_session", _already)


class _already:  # noqa: N801  # stands where a function that makes a context stood
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a store of two pairs and a database, from which the job is run."""
    monkeypatch.chdir(tmp_path)
    store = CandleStore(tmp_path / "runs" / "store")
    for seed, symbol in enumerate(("EURUSD", "GBPUSD")):
        store.append(make_series(bars=1_500, seed=seed, symbol=symbol, range_width=0.001))
    migrate("sqlite:///runs/fxcast.db")
    return tmp_path


def options(*more: str) -> list[str]:
    given = ["--model", "random-walk", "--trading.ldm4ts-horizons", "[240,960]", "--trading.forecast-interval-bars", "8"]
    given += ["--trading.ldm4ts-num-samples", "20", "--trading.min-quality", "0.2", "--draws", "100"]
    return [
        *given,
        "--trading.ldm4ts-uncertainty-threshold",
        "3.0",
        "--benchmarks",
        '["no-scaling","buy-and-hold"]',
        *PERIOD,
        *more,
    ]


def findings(folder: Path) -> dict[str, object]:
    return json.loads((folder / "findings.json").read_text())


def test_a_second_backtest_with_other_settings_computes_no_forecast_and_counts_as_a_trial(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(options("--output", "first")) == 0
    first = capsys.readouterr().out
    assert main(options("--output", "second", "--trading.sizing.risk-per-trade-pct", "0.25")) == 0
    second = capsys.readouterr().out

    assert "random-walk: 93 forecasts computed, 0 read" in first
    assert "random-walk: 0 forecasts computed, 93 read" in second
    trades = pq.read_table("first/trades.parquet")
    assert trades.num_rows >= 5, "there is something to measure"
    records = BacktestRecords(open_database("sqlite:///runs/fxcast.db"))
    rows = records.backtests()
    assert sorted((row.variant, row.is_benchmark) for row in rows) == [
        ("no-scaling", True),
        ("no-scaling", True),
        ("strategy", False),
        ("strategy", False),
    ]
    mine = next(row for row in rows if row.variant == "strategy" and row.report_folder.endswith("first"))
    assert len(records.trades_of(mine.id)) == mine.trades == trades.num_rows
    start, stop = datetime(2017, 3, 20, tzinfo=UTC), datetime(2017, 4, 20, tzinfo=UTC)
    assert len(records.trial_sharpes(("EURUSD",), "1h", start, stop)) == 2
    for text in (first, second):
        assert "Did sizing by uncertainty help?" in text
    assert "what the best of 2 trials without skill would show" in second.replace("\n", " ")

    assert main(options("--output", "second", "--trading.sizing.risk-per-trade-pct", "0.25")) == 0
    assert len(records.backtests()) == 4, "the same again is the same backtest"


def test_each_symbol_on_an_account_of_its_own_adds_up() -> None:
    both = ("--symbols", '["EURUSD","GBPUSD"]')
    assert main(options("--separately", "--output", "apart", *both)) == 0
    curve = pq.read_table("apart/equity.parquet")
    nets = pq.read_table("apart/trades.parquet").column("net").to_numpy().astype(float)
    balance = curve.column("balance").to_numpy()
    assert balance[0] == 100_000.0
    assert len(np.unique(pq.read_table("apart/trades.parquet").column("symbol").to_numpy())) == 2
    assert findings(Path("apart"))["measures"]["open_positions"] == 0 or balance[-1] != balance[0]  # type: ignore[index]
    assert abs(balance[-1] - 100_000.0 - nets.sum()) < 5.0, "the rest is the commission and interest of what is still open"


def test_forced_on_what_the_model_has_learned_from_the_report_says_so_in_red(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = np.tile(np.linspace(0.01, 3.0, 199), (24, 2, 1))
    walk = TimeOfDayWalk(timeframe=Timeframe("1h"), horizons_minutes=(240, 960), model_version="mine", sizes=sizes)
    seen = Seen(symbols=("EURUSD",), start=datetime(2017, 3, 1, tzinfo=UTC), end=datetime(2017, 4, 1, tzinfo=UTC), data_hash="0")
    save_opponent(walk, home / "mine", seen=seen, card="# mine\n")

    assert main(options("--model", "mine")) == 2
    assert "mine was trained and validated on candles up to 2017-04-01" in capsys.readouterr().err
    assert main(options("--model", "mine", "--force", "--output", "forced")) == 0

    page = (home / "forced" / "report.html").read_text()
    assert "mine has learned from candles up to 2017-04-01 00:00 UTC" in page
    assert page.index("mine has learned from candles") < page.index("Did sizing by uncertainty help?")
    rows = BacktestRecords(open_database("sqlite:///runs/fxcast.db")).backtests()
    assert {row.seen_by_model for row in rows} == {True}


def test_shorter_candles_and_quotes_of_the_store_are_used_and_named(home: Path) -> None:
    start = datetime(2017, 3, 1, tzinfo=UTC)
    CandleStore(home / "runs" / "store").append(
        make_series(bars=6_000, seed=9, symbol="EURUSD", timeframe="15m", start=start, range_width=0.0005)
    )
    assert main(options("--output", "inside")) == 0
    costs = findings(Path("inside"))["facts"]["costs"]  # type: ignore[index]
    assert "EURUSD: 15m candles say in which order prices came" in costs
    assert "EURUSD: no quotes in the store; the spread is stated, 1.0 pips" in costs
