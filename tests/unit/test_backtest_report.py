"""The report of a backtest: warnings in red, verdicts first, no link that leads out, and the same figures as data."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from fxcast.domain.candle import CandleSeries
from fxcast.domain.order import FillReason, Side
from fxcast.domain.signal import DIMENSIONS
from fxcast.performance.export import to_dict, write_trades
from fxcast.performance.groups import groups_of
from fxcast.performance.measure_table import table
from fxcast.performance.measures import (
    Benchmark,
    Costs,
    Difference,
    Fans,
    Findings,
    Interval,
    Luck,
    Measures,
    TradeOrder,
)
from fxcast.performance.report import write_report
from fxcast.performance.trade import Trade
from tests.factories import make_series
from tests.html_tags import Tags
from tests.performance_factories import HOUR, MONDAY, make_curve, make_result, make_trade

WARNING = "The model was trained on the test period: <forced>."
VERDICTS = ("Sizing by uncertainty helped a little.", "LDM4TS can't be told from SSSD.", "It may well be luck.")
COSTS = Costs(spread=12.5, slippage=2.0, commission=4.0, financing=-1.5)
PLACES = Decimal("1e-10")


def make_measures(trades: int, *, sharpe: float | None = 1.25) -> Measures:
    """Build measures of which some can't be told."""
    unknown = Interval(value=None)
    return Measures(
        years=0.5,
        net_profit=-1234.5,
        total_return=-0.012345,
        cagr=Interval(value=-0.02, low=-0.3, high=0.4),
        sharpe=Interval(value=sharpe, low=-0.75, high=2.5),
        sortino=unknown,
        calmar=unknown,
        max_drawdown=Interval(value=0.123, low=0.05, high=0.2),
        max_drawdown_days=41.0,
        trades=trades,
        win_rate=Interval(value=0.6, low=0.5, high=0.7) if trades else unknown,
        profit_factor=unknown,
        expectancy=Interval(value=-3.25),
        average_win=None,
        average_loss=None,
        turnover=12.0,
        exposure=0.25,
        costs=COSTS,
        probabilistic_sharpe=0.9999,
    )


def make_findings(trades: Sequence[Trade], *, warnings: tuple[str, ...] = (WARNING,), fans: tuple[Fans, ...] = ()) -> Findings:
    """Build findings with a benchmark that was compared, one that was not, and every kind of group."""
    result = make_result(trades, name="sized <by> LDM4TS", days=20)
    difference = Difference(
        measure="sharpe", ours=1.25, theirs=0.5, difference=Interval(value=0.75, low=np.float64(0.25), high=np.float64(1.5))
    )
    held = make_curve(np.linspace(100_000.0, 101_000.0, len(result.equity)))
    return Findings(
        result=result,
        trades=tuple(trades),
        measures=make_measures(len(trades)),
        groups=groups_of(trades),
        luck=Luck(
            trials=7,
            expected_best_sharpe=1.1,
            deflated_sharpe=0.42,
            trade_order=TradeOrder(
                orders=500, drawdown_q05=0.02, drawdown_q50=0.04, drawdown_q95=0.09, actual=0.05, as_deep_or_deeper=0.3
            )
            if trades
            else None,
        ),
        benchmarks=(
            Benchmark(
                key="no-scaling", title="no scaling", equity=result.equity, measures=make_measures(2), differences=(difference,)
            ),
            Benchmark(
                key="buy-and-hold", title="buy and hold", equity=held, measures=make_measures(0, sharpe=None), differences=()
            ),
        ),
        verdicts=VERDICTS,
        warnings=warnings,
        fans=fans,
        facts={"model": "ldm4ts-small", "settings": "ab" * 32},
        command="python -m jobs.backtest --symbols EURUSD",
    )


def make_some_trades() -> tuple[Trade, ...]:
    """Build a win in March, nothing in April, and a loss and a draw in May."""
    may = datetime(2017, 5, 8, 9, tzinfo=UTC)
    return (
        make_trade(25, opened_at=MONDAY + 50 * HOUR, commission="0.35", financing="-0.12"),
        make_trade(-30.123456789, opened_at=may, side=Side.SELL, exit_reason=FillReason.STOP, source="my <own> source"),
        make_trade(0, opened_at=may + 24 * HOUR, exit_reason=FillReason.MARKET, risk="0", uncertainty_pct=None),
    )


def make_candles() -> dict[str, CandleSeries]:
    return {"EURUSD": make_series(bars=1700, start=MONDAY - 30 * HOUR, range_width=0.0002)}


def make_fans(minutes: int) -> Fans:
    made_at = make_candles()["EURUSD"].close_times[5:-60]
    price = np.full(len(made_at), 1.1)
    return Fans(
        symbol="EURUSD",
        horizon_minutes=minutes,
        made_at=made_at,
        price=price,
        mean=price + 0.0005,
        q05=price - 0.002,
        q95=price + 0.003,
    )


@pytest.fixture(scope="module")
def findings() -> Findings:
    return make_findings(make_some_trades(), fans=(make_fans(60), make_fans(240)))


@pytest.fixture(scope="module")
def folder(findings: Findings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("report") / "missing" / "folder"
    write_report(where, findings, candles=make_candles())
    return where


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def _text(page: str) -> str:
    """Return what a reader sees: no style, no tags, no pictures."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL))).strip()


def test_nothing_on_the_page_comes_from_elsewhere_and_no_script_runs(page: str) -> None:
    tags = Tags(page)
    assert not tags.open
    assert not [tag for tag, _ in tags.tags if tag in {"script", "link", "iframe", "a"}]
    pictures = [attributes for tag, attributes in tags.tags if tag == "img"]
    assert len(pictures) == 7  # equity, months, two of trades on candles, how trades ended, quality, their order
    for attributes in pictures:
        assert (attributes["src"] or "").startswith("data:image/png;base64,")
        assert len(attributes["alt"] or "") > 20
    assert "http" not in page
    assert "url(" not in page
    assert "@import" not in page


def test_every_picture_lies_in_the_folder_too(folder: Path) -> None:
    names = sorted(path.name for path in (folder / "pictures").iterdir())
    assert names == [
        "EURUSD-median-trade.png",
        "EURUSD-worst-trade.png",
        "equity.png",
        "months.png",
        "quality.png",
        "trade-order.png",
        "trades.png",
    ]
    assert all((folder / "pictures" / name).read_bytes().startswith(b"\x89PNG") for name in names)


def test_pictures_of_an_earlier_report_do_not_stay(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "GBPUSD-worst-trade.png").write_bytes(b"old")
    write_report(tmp_path, make_findings(()), candles={})
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["equity.png", "months.png"]


def test_warnings_stand_in_a_red_box_above_everything(page: str) -> None:
    body = page[page.index("<body>") :]
    assert re.match(r'<body>\s*<aside class="warnings"', body)
    assert "The model was trained on the test period: &lt;forced&gt;." in body
    assert re.search(r"\.warnings \{[^}]*border: 2px solid #c00000;[^}]*color: #8b0000", page)


def test_without_warnings_there_is_no_red_box(tmp_path: Path) -> None:
    write_report(tmp_path, make_findings((), warnings=()), candles={})
    assert "<aside" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_verdicts_are_the_first_lines_after_the_title(page: str) -> None:
    assert _text(page[page.index("</h1>") :]).startswith(" ".join(VERDICTS))


def test_names_are_text_and_never_markup(page: str) -> None:
    assert "sized &lt;by&gt; LDM4TS" in page
    assert "my &lt;own&gt; source" in page
    assert "<by>" not in page
    assert "<own>" not in page


def test_measures_stand_beside_the_benchmarks_with_their_intervals(page: str) -> None:
    seen = _text(page)
    assert "Sharpe ratio 1.25 [−0.75, 2.50] 1.25 [−0.75, 2.50] –" in seen
    assert "net profit −1,234.50 USD" in seen
    assert "win rate 60.0 % [50.0, 70.0]" in seen
    assert "probability of a Sharpe above 0 > 99.9 %" in seen
    assert '<td class="clear">+0.75\n[+0.25, +1.50]</td>' in page


def test_a_month_without_trades_shows_as_such(page: str) -> None:
    seen = _text(page)
    assert re.search(r"2017-03 1 \+24\.53 .*2017-04 no trades 2017-05 2 −30\.12 ", seen)


def test_the_sentence_on_a_trade_says_what_was_done_and_what_came_of_it(page: str) -> None:
    assert (
        "Sold 10,000 at 1.10000 on Mon 08 May 2017 09:00 UTC, stop hit at 1.10301 on Mon 08 May 2017 13:00 UTC: "
        "−30.12 USD, −1.51 R."
    ) in _text(page)


def test_folds_of_a_walk_forward_stand_on_the_page_and_in_json(tmp_path: Path) -> None:
    folds = ({"fold": "1", "net": "+12.00 USD"}, {"fold": "2", "net": "−3.00 USD"})
    write_report(tmp_path, replace(make_findings(()), folds=folds), candles={})
    assert "fold net 1 +12.00 USD 2 −3.00 USD" in _text((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert json.loads((tmp_path / "findings.json").read_text(encoding="utf-8"))["folds"] == list(folds)


def test_without_trades_the_page_says_so_and_stands(tmp_path: Path) -> None:
    write_report(tmp_path, make_findings(()), candles=make_candles())
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not Tags(page).open
    assert "No trades." in _text(page)
    assert "How trades ended" not in page
    assert page.count("<img") == 2  # equity and months
    assert pq.read_table(tmp_path / "trades.parquet").num_rows == 0


def test_without_a_single_candle_the_page_stands(tmp_path: Path) -> None:
    findings = make_findings(())
    empty = replace(findings.result, equity=make_curve([]), candles=0)
    write_report(tmp_path, replace(findings, result=empty, benchmarks=()), candles={})
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No candle closed in this time." in page
    assert "<img" not in page
    assert json.loads((tmp_path / "findings.json").read_text(encoding="utf-8"))["run"]["final_equity"] is None


def test_json_holds_everything_and_no_nan(folder: Path, findings: Findings) -> None:
    text = (folder / "findings.json").read_text(encoding="utf-8")

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is no JSON")

    content = json.loads(text, parse_constant=refuse)
    assert content == to_dict(findings)
    assert content["verdicts"] == list(VERDICTS)
    assert content["warnings"] == [WARNING]
    assert content["measures"]["sortino"] == {"value": None, "low": None, "high": None}
    assert content["measures"]["costs"]["total"] == pytest.approx(20.0)
    assert content["benchmarks"]["no-scaling"]["differences"]["sharpe"]["low"] == 0.25
    assert content["luck"]["trade_order"]["drawdown_q95"] == 0.09
    assert [group["label"] for group in content["groups"]["month"]] == ["2017-03", "2017-05"]
    assert content["facts"]["model"] == "ldm4ts-small"
    assert content["command"] == findings.command


def test_figures_that_are_not_finite_are_null_in_json() -> None:
    findings = make_findings(())
    odd = replace(findings.measures, turnover=float("nan"), sharpe=Interval(value=float("inf"), low=np.float64("nan")))
    content = to_dict(replace(findings, measures=odd))
    assert content["measures"]["turnover"] is None
    assert content["measures"]["sharpe"] == {"value": None, "low": None, "high": None}
    json.dumps(content, allow_nan=False)


def test_parquet_holds_every_trade_as_it_was(folder: Path) -> None:
    stored = pq.read_table(folder / "trades.parquet")
    trades = make_some_trades()
    assert stored.num_rows == len(trades)
    for name in ("opened_at", "closed_at"):
        assert stored.schema.field(name).type.tz == "UTC"
    for row, trade in zip(stored.to_pylist(), trades, strict=True):
        for name in ("order_id", "symbol", "exit_reason", "source", "opened_at", "closed_at", "r_multiple"):
            assert row[name] == getattr(trade, name)
        for name in ("units", "entry_price", "exit_price", "profit", "commission", "financing", "net", "risk", "base_units"):
            assert row[name] == getattr(trade, name).quantize(PLACES)
        for name in ("spread_cost", "slippage_cost"):
            assert row[name] == getattr(trade, name)
        assert row["side"] == trade.side.value
        assert row["regime"] == trade.signal.regime.value
        for name in ("horizon_minutes", "strength", "uncertainty_pct"):
            assert row[name] == getattr(trade.signal, name)
        quality = trade.signal.quality
        assert [row[f"quality_{name}"] for name in DIMENSIONS] == [getattr(quality, name) for name in DIMENSIONS]
        assert (row["weighted_mean"], row["uncertainty_penalty"], row["quality_total"]) == (
            quality.weighted_mean,
            quality.uncertainty_penalty,
            quality.total,
        )
    assert stored.column_names == [
        *("order_id", "symbol", "side", "units", "opened_at", "closed_at", "entry_price", "exit_price", "exit_reason"),
        *("profit", "commission", "financing", "spread_cost", "slippage_cost", "net", "risk", "r_multiple"),
        *("source", "regime", "horizon_minutes", "strength", "uncertainty_pct"),
        *(f"quality_{name}" for name in DIMENSIONS),
        *("weighted_mean", "uncertainty_penalty", "quality_total", "base_units"),
    ]


def test_large_amounts_keep_their_ten_places(tmp_path: Path) -> None:
    trade = make_trade("12345678901234567890.123456789012", units=10_000_000)
    write_trades(tmp_path / "trades.parquet", [trade])
    assert pq.read_table(tmp_path / "trades.parquet")["profit"].to_pylist() == [Decimal("12345678901234567890.1234567890")]


def test_parquet_holds_the_equity_as_it_was(folder: Path, findings: Findings) -> None:
    stored, equity = pq.read_table(folder / "equity.parquet"), findings.result.equity
    assert stored.column_names == ["times", "balance", "open_profit", "exposure"]
    assert pa.types.is_timestamp(stored.schema.field("times").type)
    assert np.array_equal(stored["times"].to_numpy().astype("datetime64[s]"), equity.times)
    for name in ("balance", "open_profit", "exposure"):
        assert np.array_equal(stored[name].to_numpy(), getattr(equity, name))


def test_the_terminal_shows_the_run_beside_the_benchmarks(findings: Findings) -> None:
    console = Console(width=120, record=True)
    console.print(table(findings))
    shown = console.export_text()
    heads, *lines = shown.splitlines()
    assert re.search(r"sized <by> LDM4TS +no scaling +buy and hold", heads)
    assert any(re.match(r"Sharpe ratio +1\.25 +1\.25 +–", line) for line in lines)
    assert "[−0.75, 2.50]" in shown


def test_many_trades_of_two_symbols_make_a_page(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    trades = tuple(
        make_trade(
            round(float(profit), 2),
            symbol=symbol,
            opened_at=MONDAY + timedelta(minutes=30 * step),
            held=timedelta(minutes=int(rng.integers(1, 3000))),
        )
        for symbol in ("EURUSD", "USDJPY")
        for step, profit in enumerate(rng.normal(1.0, 20.0, 400))
    )
    findings = replace(make_findings(()), trades=trades, groups=groups_of(trades))
    write_report(tmp_path, findings, candles=make_candles())
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "EURUSD: around the worst trade" in page
    assert "USDJPY: around" not in page  # of which there are no candles
    assert pq.read_table(tmp_path / "trades.parquet").num_rows == 800
