"""Forecasts computed beforehand, handed out as a forecast service hands out its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from fxcast.domain.candle import CandleSeries, FloatArray
from fxcast.domain.forecast import HorizonForecast, LDM4TSPrediction, summarize_many
from fxcast.domain.forecaster import widened
from fxcast.errors import ForecastUnavailable
from fxcast.trading.ports import ForecastAnswer, ForecastQuestion

_BLOCK = 256  # forecasts summarised at a time: arrays beat one by one, and memory stays small


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolForecasts:
    """One model's forecasts of one symbol.

    Attributes:
        closed_at: (n,) int64, seconds since 1970 UTC, ascending: the close of each window's last candle.
        price: (n,) that close's price.
        moves: (n, num_samples, horizons) log moves.
    """

    closed_at: NDArray[np.int64]
    price: FloatArray
    moves: NDArray[np.float32]

    @classmethod
    def of(cls, series: CandleSeries, ends: NDArray[np.int64], moves: NDArray[np.float32]) -> SymbolForecasts:
        """Return the forecasts of windows that end at positions of a series."""
        return cls(closed_at=series.close_times[ends].astype(np.int64), price=series.closes[ends], moves=moves)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedForecasts:
    """One model's forecasts.

    Attributes:
        horizons_minutes: Of the last axis of the moves.
        symbols: By symbol.
    """

    model_version: str
    horizons_minutes: tuple[int, ...]
    symbols: Mapping[str, SymbolForecasts]

    def first(self, num_samples: int) -> PreparedForecasts:
        """Return the forecasts with the first of their samples alone.

        Of a model that draws sample by sample it is what the model says when asked for so many.

        Raises:
            ValueError: If there are fewer.
        """
        there = {each.moves.shape[1] for each in self.symbols.values()}
        if there and min(there) < num_samples:
            raise ValueError(f"found {min(there)} samples of {self.model_version}; {num_samples} were asked for")
        cut = {symbol: replace(each, moves=each.moves[:, :num_samples]) for symbol, each in self.symbols.items()}
        return replace(self, symbols=cut)


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibratedForecasts(PreparedForecasts):
    """Forecasts whose samples were calibrated together: about the mean of all of them.

    Attributes:
        kept_means: By horizon, the share of the raw mean that calibration keeps, over its factor on the spread.
    """

    kept_means: tuple[float, ...]

    def first(self, num_samples: int) -> PreparedForecasts:
        """Return what the model says when asked for so many samples: the first ones, calibrated about their own mean.

        With the mean of all samples in place of their own, they would have a drift that the model never forecasts: where
        calibration keeps nothing of the mean, all samples together have none, and some of them do by chance.

        Raises:
            ValueError: If there are fewer.
        """
        # Calibrated is m·w + (raw - m)·k, m being the raw mean. About the mean of the first ones, m', it is less by
        # (m' - m)·(k - w), and what is known is the difference of the calibrated means, (m' - m)·k.
        dropped = 1.0 - np.array(self.kept_means)
        # A slotted dataclass is made anew, and `super()` without arguments knows the one before.
        plain = PreparedForecasts.first(self, num_samples)
        moved: dict[str, SymbolForecasts] = {}
        for symbol, each in plain.symbols.items():
            of_all = self.symbols[symbol].moves.mean(axis=1, keepdims=True, dtype=np.float64)  # (n, 1, horizons)
            drift = each.moves.mean(axis=1, keepdims=True, dtype=np.float64) - of_all
            moved[symbol] = replace(each, moves=(each.moves - drift * dropped).astype(np.float32))
        return replace(plain, symbols=moved)


class PreparedService:
    """Implements `trading.ports.ForecastService`.

    Args:
        own: Of the service's own model.
        others: By model version, of further models that are asked for by it.
    """

    def __init__(self, own: PreparedForecasts | None, others: Mapping[str, PreparedForecasts] | None = None) -> None:
        self._own = own
        self._others = dict(others or {})
        self._blocks: dict[tuple[str, str, int, tuple[int, ...]], list[LDM4TSPrediction]] = {}

    def ask(self, questions: Sequence[ForecastQuestion], *, timeout_s: float) -> tuple[ForecastAnswer, ...]:
        """Return the forecast of each window that one was prepared for."""
        del timeout_s
        return tuple(self._answer(question) for question in questions)

    def _answer(self, question: ForecastQuestion) -> ForecastAnswer:
        prepared = self._own if question.model_version is None else self._others.get(question.model_version)
        symbol, window = question.window.symbol, question.window
        made_at = window.close_time(-1)
        closed_at = int(made_at.timestamp())
        if prepared is None or symbol not in prepared.symbols:
            return ForecastUnavailable(f"no forecasts of {symbol} by {question.model_version or 'the own model'} were prepared")
        known = prepared.symbols[symbol]
        row = int(np.searchsorted(known.closed_at, closed_at))
        if row == len(known.closed_at) or int(known.closed_at[row]) != closed_at:
            return ForecastUnavailable(f"no forecast of {symbol} at {made_at.isoformat()} was prepared")
        return self._block(prepared, question, row // _BLOCK)[row % _BLOCK]

    def _block(self, prepared: PreparedForecasts, question: ForecastQuestion, number: int) -> list[LDM4TSPrediction]:
        key = (prepared.model_version, question.window.symbol, number, question.horizons_minutes)
        if key not in self._blocks:
            own = {each: block for each, block in self._blocks.items() if each[:2] != key[:2]}  # time only goes on
            self._blocks = {**own, key: _summarised(prepared, question, number)}
        return self._blocks[key]


def _summarised(prepared: PreparedForecasts, question: ForecastQuestion, number: int) -> list[LDM4TSPrediction]:
    symbol, rows = question.window.symbol, slice(number * _BLOCK, (number + 1) * _BLOCK)
    known = prepared.symbols[symbol]
    price, moves = known.price[rows], known.moves[rows].astype(np.float64)
    # As `domain.forecaster.predict_together` does it, to the last bit.
    prices = price[:, None, None] * np.exp(widened(moves, np.ones((1, 1, moves.shape[2]))))  # (rows, samples, horizons)
    chosen = [(prepared.horizons_minutes.index(minutes), minutes) for minutes in question.horizons_minutes]
    by_horizon: dict[int, Sequence[HorizonForecast]] = {
        minutes: summarize_many(np.ascontiguousarray(prices[:, :, at])) for at, minutes in chosen
    }
    return [
        LDM4TSPrediction(
            symbol=symbol,
            timeframe=question.window.timeframe,
            made_at=datetime.fromtimestamp(second, UTC),
            price=float(price[row]),
            horizons={minutes: by_horizon[minutes][row] for _, minutes in chosen},
            inference_time_ms=0.0,
            num_samples=moves.shape[1],
            model_version=prepared.model_version,
        )
        for row, second in enumerate(known.closed_at[rows].tolist())
    ]
