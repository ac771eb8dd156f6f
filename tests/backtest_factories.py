"""Sources whose every signal is known, and what a backtest of them needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from fxcast.backtest.engine import BacktestEngine, BacktestSetup
from fxcast.backtest.result import BacktestResult
from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.signal import Direction, Signal, SignalKind
from fxcast.signals.sources import MarketView
from fxcast.trading.config import PaperMarketConfig, TradingConfig

# Every limit that would refuse or cut an order is far away: what a source says becomes an order.
NO_LIMITS: Mapping[str, object] = {
    "max_symbol_exposure_pct": 100_000,
    "max_currency_exposure_pct": 100_000,
    "max_correlation": 1,
    "max_daily_loss_pct": 100,
    "max_drawdown_pct": 100,
    "cool_off_minutes": 0,
    "max_spread_pips": 1_000,
    "weekend_cut_off_minutes": 0,
    "min_free_margin_pct": 0,
}


@dataclass(frozen=True)
class Script:
    """Says what it was told to say, at the closes it was told.

    Attributes:
        lines: Each with `at` (a candle's close, ISO), `symbol`, `side` (buy or sell), `stop`, `target` and `minutes` (the horizon).
    """

    lines: Sequence[Mapping[str, Any]]
    name: str = "script"
    timeframes: tuple[str, ...] = ()

    def signals(self, view: MarketView) -> Iterator[Signal]:
        now, symbol = to_datetime(view.window.close_times[-1]), view.window.symbol
        for line in self.lines:
            if line["symbol"] == symbol and datetime.fromisoformat(line["at"]) == now:
                yield _signal(
                    self.name, view, line["side"] == "buy", float(line["stop"]), float(line["target"]), int(line["minutes"])
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossRule:
    """Buy when the fast average of closes crosses the slow one upwards, sell when it crosses downwards.

    The order is made at the close and filled at the next open. A cross counts if there was none in the `hold_bars` candles before
    it, so that no trade ever stands in the next one's way.

    Attributes:
        hold_bars: Candles after which the position is closed, at the open of the one that follows.
        stop_pips, target_pips: From the close of the cross.
        spread_pips: The candles are of the ask; what sells, does so that much lower.
    """

    fast_bars: int = 5
    slow_bars: int = 20
    hold_bars: int = 8
    stop_pips: float = 20.0
    target_pips: float = 30.0
    spread_pips: float = 0.0
    pip: float = 0.0001


@dataclass(frozen=True)
class MovingAverageCross:
    """A `CrossRule` as a source, with prices counted in whole ticks, so that equal is equal."""

    fast_bars: int
    slow_bars: int
    hold_bars: int
    stop_pips: float
    target_pips: float
    name: str = "moving_average_cross"
    timeframes: tuple[str, ...] = ()

    def signals(self, view: MarketView) -> Iterator[Signal]:
        window, pip = view.window, float(view.instrument.pip)
        sides = self._sides(np.rint(window.closes / float(view.instrument.tick)).astype(np.int64))
        if sides[-1] * sides[-2] >= 0 or any(sides[at] * sides[at - 1] < 0 for at in range(-2, -self.hold_bars - 2, -1)):
            return
        price, up = float(window.closes[-1]), sides[-1] > 0
        sign = 1 if up else -1
        stop, target = price - sign * self.stop_pips * pip, price + sign * self.target_pips * pip
        yield _signal(self.name, view, up, stop, target, self.hold_bars * window.timeframe.minutes)

    def _sides(self, ticks: np.ndarray[Any, np.dtype[np.int64]]) -> Sequence[int]:
        """Return on which side of the slow average the fast one lay at each of the last candles, as many as matter."""
        sums = np.concatenate([[0], np.cumsum(ticks)])
        wanted = self.hold_bars + 2
        fast = (sums[self.fast_bars :] - sums[: -self.fast_bars])[-wanted:]  # (wanted,)
        slow = (sums[self.slow_bars :] - sums[: -self.slow_bars])[-wanted:]  # (wanted,)
        return np.sign(fast * self.slow_bars - slow * self.fast_bars).tolist()


def cross_source(rule: CrossRule) -> dict[str, object]:
    """Return a rule's source as it stands in a configuration."""
    options = {
        "fast_bars": rule.fast_bars,
        "slow_bars": rule.slow_bars,
        "hold_bars": rule.hold_bars,
        "stop_pips": rule.stop_pips,
        "target_pips": rule.target_pips,
    }
    return {"class": f"{MovingAverageCross.__module__}:{MovingAverageCross.__name__}", "options": options}


def only_source(source: Mapping[str, object], **changes: object) -> TradingConfig:
    """Return settings under which a user's source trades alone, and nothing stands between its signals and the orders."""
    return TradingConfig.model_validate(
        {
            "use_ldm4ts": False,
            "use_trend": False,
            "use_mean_reversion": False,
            "min_quality": 0,
            "sources": [source],
            "risk": NO_LIMITS,
            **changes,
        }
    )


def run_backtest(
    series: Sequence[CandleSeries],
    *,
    trading: TradingConfig,
    market: PaperMarketConfig,
    start: datetime,
    stop: datetime,
    symbols: Sequence[str] = (),
) -> BacktestResult:
    """Trade candles; all symbols unless some are named."""
    by_symbol = {each.symbol: each for each in series}
    setup = BacktestSetup(name="test", symbols=tuple(symbols or by_symbol), start=start, stop=stop, trading=trading, market=market)
    return BacktestEngine(setup, by_symbol).run()


def _signal(name: str, view: MarketView, up: bool, stop: float, target: float, minutes: int) -> Signal:
    return Signal(
        source=name,
        kind=SignalKind.PATTERN,
        symbol=view.window.symbol,
        made_at=to_datetime(view.window.close_times[-1]),
        horizon_minutes=minutes,
        direction=Direction.BULL if up else Direction.BEAR,
        strength=1.0,
        price=float(view.window.closes[-1]),
        stop=stop,
        target=target,
    )
