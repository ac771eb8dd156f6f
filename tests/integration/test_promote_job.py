"""From a search to trades: what is promoted is traded by backtests and engines, and is what the same values written by hand are."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from sqlalchemy import Engine, text

from fxcast.adapters.storage.backtests import BacktestRecords
from fxcast.adapters.storage.database import migrate, open_database
from fxcast.data.packaged import read_packaged_sample
from fxcast.data.store import CandleStore
from jobs.backtest import main as backtest
from jobs.promote import main as promote
from jobs.trade import main as trade
from tests.promoted import searched

pytestmark = pytest.mark.usefixtures("joined_cluster")

URL = "sqlite:///runs/fxcast.db"
VALUES = {"trading.min_quality": 0.2, "trading.management.break_even_at_r": 0.5, "trading.sizing.risk_per_trade_pct": 1.0}
IN_YAML = {"min_quality": 0.2, "management": {"break_even_at_r": 0.5}, "sizing": {"risk_per_trade_pct": 1.0}}
PERIOD = ("--from", "2017-06-05T00:00:00Z", "--to", "2017-06-17T00:00:00Z")


@pytest.fixture
def joined_cluster(dashboard_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The jobs find the tests' cluster, and leave it running."""

    @contextmanager
    def already(*, num_cpus: int | None = None) -> Generator[str]:
        assert num_cpus is None or num_cpus > 0
        yield dashboard_url

    monkeypatch.setattr("jobs.backtest.ray_session", already)
    monkeypatch.setattr("jobs.trade.ray_session", already)


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Engine]:
    """The database of a folder from which the jobs are run."""
    monkeypatch.chdir(tmp_path)
    migrate(URL)
    engine = open_database(URL)
    yield engine
    engine.dispose()


def traded(output: str, *options: str, trading: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """Trade two weeks of the sample without a model, and return the trades."""
    settings = {
        "sample": True,
        "benchmarks": [],
        "draws": 100,
        "trading": {"use_ldm4ts": False, **(trading or {})},
        "market": {"candle_side": "ask"},
    }
    Path("given.yaml").write_text(yaml.safe_dump(settings))
    assert backtest(["--config", "given.yaml", "--output", output, *PERIOD, *options]) == 0
    return pq.read_table(f"{output}/trades.parquet").to_pylist()


def findings(output: str) -> dict[str, Any]:
    return json.loads(Path(output, "findings.json").read_text())


def test_promoted_values_are_traded_as_if_they_were_written_in_yaml_and_no_more_after_a_roll_back(
    database: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    run = searched(database, symbols=("EURUSD",), values=VALUES)
    assert promote(["--run", "majors", "--by", "anna"]) == 0
    default = traded("default")
    capsys.readouterr()

    best = traded("best", "--params", "best")

    said = " ".join(capsys.readouterr().out.split())
    assert "EURUSD, all regimes: min_quality 0.2, management.break_even_at_r 0.5, sizing.risk_per_trade_pct 1 (promotion 1" in said
    by_hand = traded("by-hand", trading=IN_YAML)
    assert best == by_hand
    assert best != default
    assert best, "there is something to compare"
    assert traded("of-the-search", "--params", "majors") == best

    found = findings("best")
    assert f"trial 1 of majors, {run.id[:16]}" in found["facts"]["parameters EURUSD"]
    assert found["warnings"] == findings("by-hand")["warnings"] == []
    rows = BacktestRecords(database).backtests()
    assert len(rows) == 2, "three of the four traded the same settings, and are one trial"

    assert promote(["--rollback", "--symbols", "EURUSD", "--timeframe", "1h", "--by", "anna"]) == 0
    assert backtest(["--config", "given.yaml", *PERIOD, "--params", "best"]) == 2
    assert "nothing is promoted for 1h candles of EURUSD" in capsys.readouterr().err


def test_values_of_one_regime_are_traded_as_the_same_written_in_yaml(database: Engine) -> None:
    searched(database, symbols=("EURUSD",), regime="ranging", values={"trading.min_quality": 0.99})
    best = traded("best", "--params", "majors")
    by_hand = traded("by-hand", trading={"tuned": [{"regime": "ranging", "values": {"min_quality": 0.99}}]})
    assert best == by_hand
    assert best != traded("default")


def test_what_was_forced_past_the_guard_is_red_on_the_screen_and_in_the_report(
    database: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    searched(database, symbols=("EURUSD",), values=VALUES, promotes=False)
    assert promote(["--run", "majors", "--by", "anna", "--force", "--reason", "to look at it"]) == 0

    traded("forced", "--params", "best")

    warning = "EURUSD, all regimes: anna forced promotion 1 (trial 1 of majors) past the guard against overfitting: to look at it"
    assert warning in " ".join(capsys.readouterr().out.split())
    assert findings("forced")["warnings"] == [warning]
    assert warning in Path("forced", "report.html").read_text()


def test_an_engine_trades_what_is_promoted_and_its_ledger_keeps_the_values(
    database: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    CandleStore("runs/store").append(read_packaged_sample().data)
    searched(database, symbols=("EURUSD",), values=VALUES, promotes=False)
    assert promote(["--run", "majors", "--by", "anna", "--force"]) == 0
    period = ("--engine.start", "2017-04-24T00:00:00Z", "--engine.stop", "2017-04-26T00:00:00Z")
    options = ["--engine.account", "promoted", "--no-engine.trading.use-ldm4ts", "--engine.market.candle-side", "ask", *period]
    capsys.readouterr()

    assert trade([*options, "--params", "best"]) == 0

    said = " ".join(capsys.readouterr().out.split())
    assert "anna forced promotion 1 (trial 1 of majors) past the guard" in said
    assert "The search majors was judged on its hold-out" in said
    assert "EURUSD, all regimes: min_quality 0.2" in said
    assert "finished at 2017-04-25" in said
    with database.connect() as connection:
        contents = [json.loads(content) for (content,) in connection.execute(text("SELECT content FROM engine_settings"))]
    (kept,) = [content["trading"] for content in contents if "trading" in content]
    assert (kept["min_quality"], kept["management"]["break_even_at_r"], kept["tuned"]) == (0.2, 0.5, [])
