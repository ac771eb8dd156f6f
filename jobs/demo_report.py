"""What the demo measured: a table, summary.json, and three pictures."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from actors.engine_settings import ReplaySetup
from actors.engine_status import EngineStatus
from fxcast.adapters.storage.database import Database
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.adapters.storage.predictions import ResolvedForecast, inference_times_ms, resolved_forecasts
from fxcast.adapters.storage.registry import RegisteredModel
from fxcast.data.windows import window_at
from fxcast.domain.candle import CandleSeries, to_datetime64
from fxcast.domain.forecaster import WindowBatch, predict
from fxcast.domain.instrument import default_instrument
from fxcast.domain.signal import Verdict
from fxcast.evaluation.pictures import channels, equity_curve, forecast_fan
from fxcast.evaluation.scores import MIN_FORECASTS, HorizonScores, score_horizon
from fxcast.models.baselines.random_walk import RandomWalk
from fxcast.models.folder import from_pretrained
from fxcast.trading.forecasting import forecast_seed
from fxcast.vision.encoder import TimeSeriesVisionEncoder


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """All that the report is made of; `ingested` is the quality report as JSON types."""

    folder: Path
    database: Database
    series: CandleSeries
    ingested: Mapping[str, Any]
    setup: ReplaySetup
    status: EngineStatus
    model: RegisteredModel
    http_ms: list[float]
    seconds: float


def write_report(result: DemoResult, console: Console) -> dict[str, Any]:
    """Print the summary, and write summary.json and the pictures into the demo's folder; returns the summary."""
    ledger = SqlLedger(result.database, engine_id=result.setup.account)
    forecasts = resolved_forecasts(result.database, model_version=result.model.version)
    scores = score_by_horizon(result, forecasts)
    signals, orders, fills, equity = ledger.signals(), ledger.orders(), ledger.fills(), ledger.equity_curve()
    reasons = Counter(_kind(decided.reason) for decided in signals if decided.verdict is Verdict.REJECTED)
    latencies = inference_times_ms(result.database, model_version=result.model.version)
    summary: dict[str, Any] = {
        "seconds": round(result.seconds, 1),
        "candles": {name: result.ingested[name] for name in ("accepted", "refused")},
        "forecasts": len(latencies),
        "forecasts_missed": result.status["forecasts_missed"],
        "signals": {
            "accepted": sum(decided.verdict is Verdict.ACCEPTED for decided in signals),
            "rejected": sum(decided.verdict is Verdict.REJECTED for decided in signals),
            "rejected_because": dict(reasons.most_common()),
        },
        "orders": len(orders),
        "fills": len(fills),
        "latency_ms": _percentiles(latencies) | {"http": _percentiles(result.http_ms)},
        "scores": {str(minutes): score.to_dict() for minutes, score in scores.items()},
        "equity": {"start": float(result.setup.market.starting_balance), "end": float(equity[-1].equity)},
    }
    _print_summary(console, summary, scores)
    (result.folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    _draw(result, forecasts, ledger)
    console.print(f"\nwritten to {result.folder}: summary.json, forecast.png, channels.png, equity.png, and the database fxcast.db")
    return summary


def score_by_horizon(result: DemoResult, forecasts: tuple[ResolvedForecast, ...]) -> dict[int, HorizonScores]:
    """Score the forecasts whose outcome is known, against the random walk with EWMA width at the same moments."""
    walk = RandomWalk(timeframe=result.series.timeframe, horizons_minutes=result.setup.trading.ldm4ts_horizons)
    pip = float(default_instrument(result.setup.symbols[0]).pip)
    step_bars = result.setup.trading.forecast_interval_bars
    scores: dict[int, HorizonScores] = {}
    for position, minutes in enumerate(walk.horizons_minutes):
        rows = [row for row in forecasts if row.horizon_minutes == minutes]
        if len(rows) * step_bars < max(MIN_FORECASTS * step_bars, 2 * result.series.timeframe.bars(minutes)):
            continue  # too few to score: LDM4TS is off, or the replay is short
        scores[minutes] = score_horizon(
            np.array([row.samples for row in rows]),
            np.array([row.actual_price for row in rows]),
            np.array([row.price for row in rows]),
            random_walk_std=walk.standard_deviations(_windows(result.series, rows))[:, position],
            pip=pip,
            spread_pips=result.setup.trading.spread_pips,
            horizon_bars=result.series.timeframe.bars(minutes),
            step_bars=step_bars,
            interval=(np.array([row.q05 for row in rows]), np.array([row.q95 for row in rows])),
        )
    return scores


def _windows(series: CandleSeries, rows: Sequence[ResolvedForecast]) -> WindowBatch:
    """Return the windows that forecasts were made from."""
    known = np.searchsorted(series.close_times, np.array([to_datetime64(row.made_at) for row in rows]), side="right")
    return WindowBatch.ending_at(series, known - 1)


def _kind(reason: str) -> str:
    """Return a reason without what was found, so that equal reasons count as one; the full one is in the database."""
    return re.sub(r" of \d[\d.,]*", " of …", reason)


def _percentiles(milliseconds: list[float]) -> dict[str, float]:
    if not milliseconds:
        return {}
    p50, p95 = np.percentile(milliseconds, (50, 95))
    return {"p50": round(float(p50), 1), "p95": round(float(p95), 1)}


def _print_summary(console: Console, summary: Mapping[str, Any], scores: Mapping[int, HorizonScores]) -> None:
    table = Table(title="Forecasts of the test period (brackets: 95 % intervals)")
    for name in ("minutes", "forecasts", "CRPS, pips", "random walk", "skill", "90 % interval covers", "PIT index", "MSE ratio"):
        table.add_column(name, justify="right")
    for minutes, score in scores.items():
        skill, coverage = score.crps_skill, score.coverage_90
        table.add_row(
            str(minutes),
            str(score.forecasts),
            f"{score.crps.value:.2f}",
            f"{score.crps_random_walk.value:.2f}",
            f"{skill.value:+.1%} [{skill.low:+.1%}, {skill.high:+.1%}]",
            f"{coverage.value:.1%} [{coverage.low:.1%}, {coverage.high:.1%}]",
            f"{score.pit_index:.2f}",
            f"{score.mse_ratio:.3f}",
        )
    console.print(table if scores else "no forecast was scored: there were too few whose outcome is known")
    for minutes, score in scores.items():
        console.print(verdict(minutes, score))
    signals, equity, latency = summary["signals"], summary["equity"], summary["latency_ms"]
    console.print(f"\nsignals: {signals['accepted']} accepted, {signals['rejected']} rejected; the most frequent reasons:")
    for reason, count in list(signals["rejected_because"].items())[:6]:
        console.print(f"  {count:>4} × {reason}", markup=False)
    change = equity["end"] - equity["start"]
    console.print(f"orders: {summary['orders']}, fills: {summary['fills']}")
    console.print(
        f"equity: {equity['start']:,.2f} → {equity['end']:,.2f} USD ({change:+,.2f}); "
        "one replay of one period says nothing about the next"
    )
    for place, times in (
        ("inside the replica, every forecast of the replay", latency),
        ("over HTTP, ten requests", latency["http"]),
    ):
        if "p50" in times:
            console.print(f"latency of a forecast {place}: p50 {times['p50']:.0f} ms, p95 {times['p95']:.0f} ms")
    console.print(f"forecasts that came too late or not at all: {summary['forecasts_missed']}")


def verdict(minutes: int, score: HorizonScores) -> str:
    """Say in a sentence whether the forecast beat the random walk, and whether its interval was honest."""
    skill, coverage = score.crps_skill, score.coverage_90
    if skill.low > 0:
        beat = "beat the random walk"
    elif skill.high < 0:
        beat = "lost to the random walk"
    else:
        beat = "can't be told from the random walk"
    honest = "right" if coverage.low <= 0.9 <= coverage.high else ("too narrow" if coverage.value < 0.9 else "too wide")
    doubt = "" if score.independent >= 10 else f" Only {score.independent:.0f} independent outcomes: take it as a hint."
    return f"{minutes} minutes: the forecast {beat} in CRPS ({skill.value:+.1%}); its 90 % interval was {honest}.{doubt}"


def _draw(result: DemoResult, forecasts: tuple[ResolvedForecast, ...], ledger: SqlLedger) -> None:
    """Draw the forecast in the middle of the test period, which nobody chose, and the account."""
    longest = result.setup.trading.ldm4ts_horizons[-1]
    moments = [row.made_at for row in forecasts if row.horizon_minutes == longest]
    moment = moments[len(moments) // 2] if moments else result.setup.start
    window = window_at(result.series, moment)
    pipeline = from_pretrained(result.model.folder)
    config = pipeline.config
    prediction = predict(  # as the engine asked for it
        pipeline,
        window,
        horizons_minutes=config.horizons_minutes,
        num_samples=result.setup.trading.ldm4ts_num_samples,
        seed=forecast_seed(window.symbol, moment),
    )
    ahead = int(np.searchsorted(result.series.close_times, window.close_times[-1])) + 1
    forecast_fan(result.folder / "forecast.png", window, prediction, outcome=result.series.slice(ahead, ahead + config.future_bars))
    sampled = pipeline.sample_paths(WindowBatch.of(window), num_samples=1, seeds=[1])
    chart = TimeSeriesVisionEncoder(config.image_size)(torch.from_numpy(window.values[None]))[0]
    channels(
        result.folder / "channels.png",
        chart.numpy().astype(np.float64),
        sampled.charts[0, 0].numpy().astype(np.float64),
        window_name=f"{window.symbol} {window.timeframe}: 100 candles up to {moment:%Y-%m-%d %H:%M} UTC, as the model sees them",
        future_name=f"One sampled future of {config.future_bars} candles, as the model draws it",
    )
    equity_curve(result.folder / "equity.png", ledger.equity_curve(), ledger.fills(), currency=result.setup.market.account_currency)
