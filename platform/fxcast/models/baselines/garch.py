"""GARCH(1,1): volatility that clusters and fades, filtered inside each window and simulated ahead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self, cast

import numpy as np
from pydantic import Field, model_validator

from fxcast.config import Settings
from fxcast.domain.candle import CandleSeries, FloatArray
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.forecaster import WindowBatch
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles
from fxcast.models.path import VOLATILITY_FLOOR, ewma_volatility

if TYPE_CHECKING:
    from arch.univariate.base import ARCHModelResult

Innovations = Literal["t", "normal"]

_FEWEST_RETURNS = 500
# arch's optimiser can stop where it began and call that converged (hourly EUR/USD of 2007 to 2016 with Student-t innovations ended
# 1,500 log-likelihood below the best). So it starts from several points, (omega, alpha, beta), on returns of unit variance.
_STARTS = ((0.001, 0.03, 0.965), (0.02, 0.05, 0.93), (0.02, 0.10, 0.88))
# Where none of them leads anywhere (quiet returns with one jump of 29 standard deviations), from a variance that hardly remembers.
_FORGETFUL_STARTS = ((0.5, 0.01, 0.49), (0.9, 0.05, 0.05))
_START_FREEDOM = 5.0
_WINDOWS_AT_ONCE = 128


class GarchParameters(Settings):
    """variance(k+1) = omega + alpha · return(k)² + beta · variance(k), for returns in units of their own training deviation."""

    scale: float = Field(gt=0, description="standard deviation of the training period's log returns; omega is in its square")
    omega: float = Field(gt=0)
    alpha: float = Field(ge=0)
    beta: float = Field(ge=0)
    freedom: float | None = Field(default=None, gt=2, description="degrees of freedom of Student's t; None is the normal law")
    log_likelihood: float
    returns: int = Field(ge=1, description="how many were fitted")

    @model_validator(mode="after")
    def _does_not_explode(self) -> GarchParameters:
        if self.alpha + self.beta > 1.0 + 1e-9:
            raise ValueError(f"alpha + beta must be at most 1, found {self.alpha + self.beta}")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class _WindowLaws:
    """Parameters of each window, in squared log returns, each (windows,); `freedom` inf is the normal law."""

    omega: FloatArray
    alpha: FloatArray
    beta: FloatArray
    freedom: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Garch:
    """Driftless GARCH(1,1) on log returns; implements `Forecaster`.

    A weekend is one bar, in the fit as in the forecast. The law of a window is its symbol's. One that was not fitted has the
    pooled one, whose scale is the window's own EWMA volatility: it needs no history of that symbol.

    Attributes:
        by_symbol: What was fitted on each symbol.
        pooled: What was fitted on all of them, each standardised by its own deviation.

    Source: Bollerslev 1986; Student-t innovations, Bollerslev 1987.
    """

    timeframe: Timeframe
    horizons_minutes: tuple[int, ...]
    by_symbol: Mapping[str, GarchParameters]
    pooled: GarchParameters
    volatility_span_bars: int = 120
    model_version: str = "garch"

    @classmethod
    def fit(
        cls,
        series: Sequence[CandleSeries],
        horizons_minutes: tuple[int, ...],
        *,
        innovations: Innovations = "t",
        span_bars: int = 120,
    ) -> Self:
        """Fit every symbol of a training period by maximum likelihood, and all of them together.

        Args:
            series: One a symbol, of one timeframe; nothing after the training period.

        Raises:
            BadCandles: If a symbol has too few candles, or prices that never move.
        """
        returns = {one.symbol: np.diff(np.log(one.closes)) for one in series}
        for symbol, moves in returns.items():
            if len(moves) < _FEWEST_RETURNS:
                allowed = f"at least {_FEWEST_RETURNS + 1} of each symbol"
                raise BadCandles("candles", f"{len(moves) + 1} of {symbol} in the training period", allowed)
            if not moves.std() > 0:
                raise BadCandles("candles", f"{symbol} at one price all through the training period", "prices that move")
        by_symbol = {symbol: fit_parameters(moves, innovations) for symbol, moves in returns.items()}
        standardised = np.concatenate([moves / moves.std() for moves in returns.values()])
        pooled = fit_parameters(standardised, innovations) if len(series) > 1 else next(iter(by_symbol.values()))
        return cls(
            timeframe=series[0].timeframe,
            horizons_minutes=horizons_minutes,
            by_symbol=by_symbol,
            pooled=pooled,
            volatility_span_bars=span_bars,
        )

    def variances(self, windows: WindowBatch) -> FloatArray:
        """Return the variance of the log return of the bar after each window, filtered inside the window, (windows,)."""
        return _filtered(_returns(windows), self._laws(windows))

    def sample(self, windows: WindowBatch, *, num_samples: int, seeds: Sequence[int]) -> FloatArray:
        """Draw log moves, (windows, num_samples, horizons); see `Forecaster.sample`."""
        laws = self._laws(windows)
        variances = _filtered(_returns(windows), laws)
        bars = [self.timeframe.bars(minutes) for minutes in self.horizons_minutes]
        moves = np.empty((len(windows), num_samples, len(bars)))
        for start in range(0, len(windows), _WINDOWS_AT_ONCE):  # bounds the memory
            part = slice(start, start + _WINDOWS_AT_ONCE)
            own = _WindowLaws(omega=laws.omega[part], alpha=laws.alpha[part], beta=laws.beta[part], freedom=laws.freedom[part])
            draws = [
                _draw(np.random.default_rng(seed), float(freedom), (bars[-1], num_samples))
                for seed, freedom in zip(seeds[part], own.freedom, strict=True)
            ]
            moves[part] = _simulated(np.stack(draws, axis=1), variances[part], own, bars)
        return moves

    def _laws(self, windows: WindowBatch) -> _WindowLaws:
        known = [self.by_symbol.get(symbol) for symbol in windows.symbols]
        rows = [self.pooled if law is None else law for law in known]
        own_scale = ewma_volatility(windows.candles[:, :, 3], self.volatility_span_bars)
        scale = np.array([own if law is None else law.scale for law, own in zip(known, own_scale, strict=True)])
        return _WindowLaws(
            omega=np.array([law.omega for law in rows]) * scale**2,
            alpha=np.array([law.alpha for law in rows]),
            beta=np.array([law.beta for law in rows]),
            freedom=np.array([np.inf if law.freedom is None else law.freedom for law in rows]),
        )


def fit_parameters(returns: FloatArray, innovations: Innovations = "t") -> GarchParameters:
    """Fit one law to log returns, (n,), with zero mean, by the best of several starts.

    Raises:
        BadCandles: If no start converges.
    """
    from arch import arch_model  # here and not above: what forecasts needs neither arch nor the second that it takes to import

    scale = float(returns.std())  # per cent, as arch suggests, is still far too small on one-minute candles
    model = arch_model(returns / scale, mean="Zero", vol="GARCH", p=1, q=1, dist=innovations, rescale=False)
    freedom = [_START_FREEDOM] if innovations == "t" else []
    best: ARCHModelResult | None = None
    for starts in (_STARTS, _FORGETFUL_STARTS):
        fits = [model.fit(disp="off", show_warning=False, starting_values=np.array([*start, *freedom])) for start in starts]
        best = max((fit for fit in fits if fit.convergence_flag == 0), key=lambda fit: fit.loglikelihood, default=None)
        if best is not None:
            break
    else:
        raise BadCandles("candles", f"{len(returns)} returns on which GARCH(1,1) does not converge", "a longer training period")
    omega, alpha, beta, *rest = (float(value) for value in np.asarray(best.params, dtype=np.float64))
    return GarchParameters(
        scale=scale,
        omega=max(omega, 1e-12),
        alpha=max(alpha, 0.0),
        beta=max(min(beta, 1.0 - alpha), 0.0),  # the optimiser keeps its bounds to within 1e-6
        freedom=rest[0] if rest else None,
        log_likelihood=float(best.loglikelihood),
        returns=len(returns),
    )


def _returns(windows: WindowBatch) -> FloatArray:
    return cast("FloatArray", np.diff(np.log(windows.candles[:, :, 3]), axis=1))  # (windows, CONTEXT_BARS − 1)


def _filtered(returns: FloatArray, laws: _WindowLaws) -> FloatArray:
    """Return the variance of the bar after the returns, (windows,).

    The recursion needs a variance before the window. It is what the law itself expects half a window after the mean square of the
    window's returns: persistence^(half) of that and, for the rest, the unconditional variance. So a law that forgets quickly starts
    from the unconditional variance, and one that never forgets (alpha + beta = 1, where there is none) from the window alone.
    """
    persistence = laws.alpha + laws.beta
    kept = persistence ** (CONTEXT_BARS // 2)
    forgetting = 1.0 - persistence
    # 1 + p + … + p^(half − 1), which times omega is (1 − kept) of the unconditional variance, and finite where that is not
    terms = np.where(forgetting > 1e-9, (1.0 - kept) / np.maximum(forgetting, 1e-9), CONTEXT_BARS // 2)
    variance = kept * (returns**2).mean(axis=1) + laws.omega * terms
    variance = laws.omega + persistence * variance  # of the window's first return, as in arch
    for column in returns.T:
        variance = laws.omega + laws.alpha * column**2 + laws.beta * variance
    return np.maximum(variance, VOLATILITY_FLOOR**2)


def _draw(
    generator: np.random.Generator, freedom: float, shape: tuple[int, int]
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Draw innovations of unit variance; in single precision, which halves the time of a forecast."""
    normal = generator.standard_normal(shape, dtype=np.float32)
    if np.isinf(freedom):
        return normal
    # t = normal / √(chi² / freedom), times √((freedom − 2) / freedom), with chi² = 2 · gamma(freedom / 2)
    gamma = generator.standard_gamma(freedom / 2.0, shape, dtype=np.float32)
    normal *= np.sqrt(np.float32(freedom / 2.0 - 1.0) / np.maximum(gamma, np.float32(1e-6)))
    return normal


def _simulated(
    draws: np.ndarray[tuple[int, ...], np.dtype[np.float32]], variances: FloatArray, laws: _WindowLaws, bars: Sequence[int]
) -> FloatArray:
    """Run every sample of every window ahead at once.

    Args:
        draws: (bars, windows, samples), of unit variance.
        variances: Of the first bar, (windows,).
        bars: The horizons, ascending.

    Returns:
        (windows, samples, horizons).
    """
    # In units of the first bar's deviation: squares of one-minute returns are too small for single precision to add up.
    omega = (laws.omega / variances).astype(np.float32)[:, None]
    alpha, beta = laws.alpha.astype(np.float32)[:, None], laws.beta.astype(np.float32)[:, None]
    variance = np.ones(draws.shape[1:], dtype=np.float32)
    move = np.zeros(draws.shape[1:], dtype=np.float64)
    at: list[FloatArray] = []
    for bar, draw in enumerate(draws, start=1):
        step = np.sqrt(variance) * draw
        move += step
        variance *= beta
        variance += omega
        variance += alpha * step * step
        if bar in bars:
            at.append(move.copy())
    return np.stack(at, axis=2) * np.sqrt(variances)[:, None, None]
