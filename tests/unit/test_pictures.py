"""Pictures are written, show something, and leave matplotlib's global state alone."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from fxcast.domain.forecaster import predict
from fxcast.domain.order import Fill, FillReason, Side
from fxcast.domain.portfolio import EquityPoint
from fxcast.evaluation.pictures import channels, equity_curve, forecast_fan
from fxcast.models.baselines.random_walk import RandomWalk
from tests.factories import HOUR, NOON, make_series

HORIZONS = (240, 960, 3840)


def pixels(path: Path) -> np.ndarray:
    return matplotlib.image.imread(path)


def ink(path: Path) -> float:
    """Return the share of pixels that are not white."""
    return float((pixels(path)[:, :, :3] < 0.99).any(axis=2).mean())


def equity(points: int, *, step: str = "20") -> list[EquityPoint]:
    return [
        EquityPoint(at=NOON + n * HOUR, balance=Decimal(100_000) + n * Decimal(step), open_profit=Decimal((-1) ** n))
        for n in range(points)
    ]


def fill(sequence: int, *, side: Side = Side.BUY, reason: FillReason = FillReason.MARKET, at: datetime = NOON) -> Fill:
    return Fill(
        sequence=sequence,
        client_order_id=str(sequence),
        symbol="EURUSD",
        side=side,
        units=Decimal(1000),
        price=Decimal("1.1"),
        reason=reason,
        profit=Decimal(0),
        filled_at=at,
    )


@pytest.mark.parametrize("with_outcome", [True, False])
@pytest.mark.parametrize(("timeframe", "symbol", "price"), [("1h", "EURUSD", 1.1), ("1m", "USDJPY", 150.0)])
def test_a_forecast_is_drawn_with_and_without_its_outcome(
    tmp_path: Path, timeframe: str, symbol: str, price: float, with_outcome: bool
) -> None:
    series = make_series(bars=400, timeframe=timeframe, symbol=symbol, price=price, range_width=0.0003 * price)
    window = series.slice(0, 100)
    horizons = HORIZONS if timeframe == "1h" else (15, 60, 240)
    prediction = predict(
        RandomWalk(timeframe=window.timeframe, horizons_minutes=horizons), window, horizons_minutes=horizons, num_samples=50, seed=0
    )
    bare, path = tmp_path / "bare.png", tmp_path / "new" / "fan.png"
    forecast_fan(bare, window, prediction)
    forecast_fan(
        path,
        window,
        prediction,
        outcome=series.slice(100, 400) if with_outcome else None,
        sample_paths=np.full((20, 64), prediction.price * 1.001),
    )
    height, width, _ = pixels(path).shape
    assert (width, height) == (1320, 720)
    assert ink(path) > 0.05
    assert (pixels(path) != pixels(bare)).any()


def test_an_outcome_that_is_not_complete_is_drawn_as_far_as_it_goes(tmp_path: Path) -> None:
    series = make_series(bars=103)
    window = series.slice(0, 100)
    prediction = predict(
        RandomWalk(timeframe=window.timeframe, horizons_minutes=HORIZONS), window, horizons_minutes=(240,), num_samples=2, seed=0
    )
    forecast_fan(tmp_path / "fan.png", window, prediction, outcome=series.slice(100, 103))
    forecast_fan(tmp_path / "none.png", window, prediction, outcome=series.slice(103, 103))
    assert ink(tmp_path / "fan.png") > ink(tmp_path / "none.png") > 0.02


def test_channels_of_a_window_and_a_future_are_drawn(tmp_path: Path) -> None:
    chart = np.random.default_rng(0).uniform(-1.2, 1.2, (3, 32, 32))
    channels(tmp_path / "channels.png", chart, -chart, window_name="EURUSD 1h", future_name="one sampled future")
    assert pixels(tmp_path / "channels.png").shape[1] == 1320
    assert ink(tmp_path / "channels.png") > 0.4


def test_an_equity_curve_is_drawn_with_its_fills(tmp_path: Path) -> None:
    points = equity(300)
    fills = [
        fill(1, at=points[10].at - timedelta(minutes=20)),
        fill(2, side=Side.SELL, at=points[50].at),
        fill(3, reason=FillReason.STOP, at=points[90].at),
        fill(4, reason=FillReason.TARGET, at=points[200].at),
        fill(5, at=points[-1].at + HOUR),
    ]
    equity_curve(tmp_path / "bare.png", points, [], currency="USD")
    equity_curve(tmp_path / "equity.png", points, fills, currency="USD")
    assert pixels(tmp_path / "equity.png").shape[1] == 1320
    assert ink(tmp_path / "bare.png") > 0.02
    assert (pixels(tmp_path / "equity.png") != pixels(tmp_path / "bare.png")).any()


@pytest.mark.parametrize("points", [1, 2, 40])
def test_a_short_or_losing_account_is_drawn_too(tmp_path: Path, points: int) -> None:
    equity_curve(tmp_path / "equity.png", equity(points, step="-3000"), [fill(1)], currency="EUR")
    assert ink(tmp_path / "equity.png") > 0.01


def test_an_account_without_points_has_no_curve(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one point or more"):
        equity_curve(tmp_path / "equity.png", [], [], currency="USD")


def test_times_are_utc_whatever_the_zone_of_the_points(tmp_path: Path) -> None:
    points = equity(30)
    east = timezone(timedelta(hours=5))
    moved = [replace(point, at=point.at.astimezone(east)) for point in points]
    equity_curve(tmp_path / "utc.png", points, [], currency="USD")
    equity_curve(tmp_path / "local.png", moved, [], currency="USD")
    assert (pixels(tmp_path / "utc.png") == pixels(tmp_path / "local.png")).all()


def test_drawing_needs_no_display_and_no_global_state() -> None:
    code = "import sys, fxcast.evaluation.pictures; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], env={"PYTHONPATH": "platform"})
