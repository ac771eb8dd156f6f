"""Which state the market is in: a Gaussian hidden Markov model, filtered, never smoothed."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from fxcast.domain.candle import CandleSeries, FloatArray
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.signal import Regime
from fxcast.errors import BadCandles

FEATURE_BARS = 12
MIN_FIT_CANDLES = 300
_ARRAYS = ("start", "transition", "means", "variances", "center", "scale")
# Half a hundredth of a pip per candle: keeps the logarithm finite where the price stood still.
_LEAST_VOLATILITY = 5e-7
_BLOCK = 4096  # candles filtered at a time: a year of minutes takes no more memory than three days
_LEAST_LIKELIHOOD = 1e-300  # of a state beside the likeliest: none is ruled out
# No step between regimes is impossible; the fit may say so after a quiet year.
_LEAST_PROBABILITY = 1e-6
# Where the fit starts, in standardised straightness and volatility: calm and crooked, straight, wild; each lasting 20 candles or
# so. From hmmlearn's own start (k-means, random transitions) EUR/USD of 2017 ended in three equal states.
_FIRST_MEANS = np.array([[-0.5, -0.5], [1.0, -0.3], [0.0, 1.0]])
_FIRST_TRANSITION = np.full((3, 3), 0.025) + 0.925 * np.eye(3)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegimeView:
    """What is known of the regime at a moment: probabilities that sum to 1, and the likeliest."""

    regime: Regime
    probabilities: Mapping[Regime, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RegimeModel:
    """A fitted hidden Markov model of three states.

    It filters with plain floats: for three states they are faster than arrays, and a candle counts the same, to the last bit,
    however many are taken in at once.

    Attributes:
        start: (3,) probabilities of the first state.
        transition: (3, 3) from row to column.
        means: (3, 2) of the standardised features.
        variances: (3, 2)
        center: (2,) mean of each feature while fitting.
        scale: (2,) standard deviation of each feature while fitting.
        labels: The regime of each state.
    """

    start: FloatArray
    transition: FloatArray
    means: FloatArray
    variances: FloatArray
    center: FloatArray
    scale: FloatArray
    labels: tuple[Regime, ...]
    _numbers: tuple[list[list[float]], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # A state's logarithm of likelihood is its height less steepness · distance² in each feature.
        heights = -0.5 * np.log(self.variances).sum(axis=1)  # (3,)
        known = (self.start[None], self.transition, np.stack([self.center, self.scale]), self.means, 0.5 / self.variances)
        object.__setattr__(self, "_numbers", tuple(each.tolist() for each in (*known, heights[None])))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RegimeModel) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(self.means.tobytes())

    def filtered_path(self, series: CandleSeries) -> FloatArray:
        """Return the probability of each state at each candle, given the candles up to it: (n − 12, 3).

        The first row belongs to candle `FEATURE_BARS`, the first whose features are known.

        Source: the forward recursion, Rabiner 1989, doi:10.1109/5.18626.
        """
        return np.array(self._path(None, _feature_rows(series.closes)))

    def filtered_on(self, before: Sequence[float], closes: FloatArray) -> tuple[float, ...]:
        """Return the probability of each state at the last of some closing prices, given those at the twelfth of them.

        So `FEATURE_BARS` + 1 closes are one step of the recursion of `filtered_path`.
        """
        return self._path(before, _feature_rows(closes))[-1]

    def _path(self, before: Sequence[float] | None, features: list[tuple[float, float]]) -> list[tuple[float, float, float]]:
        """Return the probability of each state at each row of features, given those at the row before if any was."""
        (
            [start],
            [[stay_0, from_0_to_1, from_0_to_2], [from_1_to_0, stay_1, from_1_to_2], [from_2_to_0, from_2_to_1, stay_2]],
            [[center_s, center_v], [scale_s, scale_v]],
            [[mean_s0, mean_v0], [mean_s1, mean_v1], [mean_s2, mean_v2]],
            [[steep_s0, steep_v0], [steep_s1, steep_v1], [steep_s2, steep_v2]],
            [[height_0, height_1, height_2]],
        ) = self._numbers
        exp = math.exp
        path: list[tuple[float, float, float]] = []
        for straightness, volatility in features:
            if before is None:
                ahead_0, ahead_1, ahead_2 = start
            else:
                was_0, was_1, was_2 = before
                ahead_0 = was_0 * stay_0 + was_1 * from_1_to_0 + was_2 * from_2_to_0
                ahead_1 = was_0 * from_0_to_1 + was_1 * stay_1 + was_2 * from_2_to_1
                ahead_2 = was_0 * from_0_to_2 + was_1 * from_1_to_2 + was_2 * stay_2
            s, v = (straightness - center_s) / scale_s, (volatility - center_v) / scale_v
            log_0 = height_0 - steep_s0 * (s - mean_s0) * (s - mean_s0) - steep_v0 * (v - mean_v0) * (v - mean_v0)
            log_1 = height_1 - steep_s1 * (s - mean_s1) * (s - mean_s1) - steep_v1 * (v - mean_v1) * (v - mean_v1)
            log_2 = height_2 - steep_s2 * (s - mean_s2) * (s - mean_s2) - steep_v2 * (v - mean_v2) * (v - mean_v2)
            most = max(log_0, log_1, log_2)
            weight_0 = ahead_0 * (exp(log_0 - most) + _LEAST_LIKELIHOOD)
            weight_1 = ahead_1 * (exp(log_1 - most) + _LEAST_LIKELIHOOD)
            weight_2 = ahead_2 * (exp(log_2 - most) + _LEAST_LIKELIHOOD)
            total = weight_0 + weight_1 + weight_2
            before = (weight_0 / total, weight_1 / total, weight_2 / total)
            path.append(before)
        return path

    def filtered(self, window: CandleSeries) -> RegimeView:
        """Return the regime at the window's last candle.

        Raises:
            BadCandles: If the window has no more than `FEATURE_BARS` candles.
        """
        last = self.filtered_path(window)[-1]
        probabilities = {label: float(last[position]) for position, label in enumerate(self.labels)}
        return RegimeView(regime=self.labels[int(last.argmax())], probabilities=probabilities)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        content: dict[str, Any] = {name: getattr(self, name).tolist() for name in _ARRAYS}
        return {**content, "labels": [label.value for label in self.labels]}


def regime_model_from_dict(content: Mapping[str, Any]) -> RegimeModel:
    """Rebuild a model from `RegimeModel.to_dict`."""
    return RegimeModel(
        **{name: np.array(content[name], dtype=np.float64) for name in _ARRAYS},
        labels=tuple(Regime(label) for label in content["labels"]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RegimeState:
    """The filter of one symbol between two candles.

    Attributes:
        model: What is filtered with; None before the first fit.
        probabilities: (3,) of the model's states at the candle that closed at `as_of`; empty before the first.
        as_of: Close of the last candle taken in.
        fitted_at: Close of the last candle that the model was fitted on.
        candles_since_fit: Candles taken in since then.
    """

    model: RegimeModel | None = None
    probabilities: tuple[float, ...] = ()
    as_of: datetime | None = None
    fitted_at: datetime | None = None
    candles_since_fit: int = 0

    def advanced(self, window: CandleSeries) -> RegimeState:
        """Take in the last candle of a window; one that was taken in last changes nothing.

        If the candle before it was the last one taken in, that is one step of the filter, which so remembers more than the window
        holds. Else (the first candle, one after a gap in what was seen, or after a fit) the filter starts anew at the window's
        beginning: what lies before the window is forgotten.

        Raises:
            BadCandles: If it starts anew and the window has no more than `FEATURE_BARS` candles.
        """
        at, last = window.close_time(-1), len(window) - 1
        if at == self.as_of:
            return self
        if self._stands_before(window, last):
            return self._at(at, self._filtered_on(window, last, last + 1), taken=1)
        if self.model is None:
            return self._at(at, self.probabilities, taken=1)
        return self._at(at, tuple(self.model.filtered_path(window)[-1].tolist()), taken=1)

    def advanced_over(self, series: CandleSeries, first: int, stop: int) -> RegimeState:
        """Take in the candles from position `first` up to and without `stop`.

        To the last bit what `advanced` makes of one after another, each the last of a window of `CONTEXT_BARS` candles (or of all
        there are), in a fraction of the time.

        Raises:
            BadCandles: As `advanced`.
        """
        state = self
        for position in range(first, stop):
            if state._stands_before(series, position):
                probabilities = state._filtered_on(series, position, stop)
                return state._at(series.close_time(stop - 1), probabilities, taken=stop - position)
            state = state.advanced(series.slice(max(0, position + 1 - CONTEXT_BARS), position + 1))
        return state

    def _stands_before(self, series: CandleSeries, position: int) -> bool:
        """Tell whether the last candle taken in is the one before a position, and the filter can go on from there."""
        if position < FEATURE_BARS or self.as_of is None or (self.model is not None and not self.probabilities):
            return False
        return self.as_of == series.close_time(position - 1)

    def _filtered_on(self, series: CandleSeries, first: int, stop: int) -> tuple[float, ...]:
        """Return the probabilities after candles, the first of which follows the last one taken in."""
        probabilities = self.probabilities
        if self.model is not None:
            closes = series.closes
            for begin in range(first, stop, _BLOCK):
                block = closes[begin - FEATURE_BARS : min(begin + _BLOCK, stop)]
                probabilities = self.model.filtered_on(probabilities, block)
        return probabilities

    def _at(self, moment: datetime, probabilities: tuple[float, ...], *, taken: int) -> RegimeState:
        return RegimeState(
            model=self.model,
            probabilities=probabilities,
            as_of=moment,
            fitted_at=self.fitted_at,
            candles_since_fit=self.candles_since_fit + taken,
        )

    def refitted(self, model: RegimeModel, at: datetime) -> RegimeState:
        """Return the filter with another model; the next candle starts it anew."""
        return RegimeState(model=model, as_of=None, fitted_at=at)

    def view(self) -> RegimeView:
        """Return what is known of the regime at the last candle."""
        if self.model is None or not self.probabilities:
            return unknown_regime()
        most = max(range(len(self.probabilities)), key=self.probabilities.__getitem__)
        return RegimeView(
            regime=self.model.labels[most], probabilities=dict(zip(self.model.labels, self.probabilities, strict=True))
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "model": None if self.model is None else self.model.to_dict(),
            "probabilities": list(self.probabilities),
            "as_of": None if self.as_of is None else self.as_of.isoformat(),
            "fitted_at": None if self.fitted_at is None else self.fitted_at.isoformat(),
            "candles_since_fit": self.candles_since_fit,
        }


def regime_state_from_dict(content: Mapping[str, Any]) -> RegimeState:
    """Rebuild a filter from `RegimeState.to_dict`."""
    return RegimeState(
        model=None if content["model"] is None else regime_model_from_dict(content["model"]),
        probabilities=tuple(content["probabilities"]),
        as_of=None if content["as_of"] is None else datetime.fromisoformat(content["as_of"]),
        fitted_at=None if content["fitted_at"] is None else datetime.fromisoformat(content["fitted_at"]),
        candles_since_fit=content["candles_since_fit"],
    )


def unknown_regime() -> RegimeView:
    """Return the view without a model: every regime is as likely as the next, and none is claimed beyond ranging."""
    return RegimeView(regime=Regime.RANGING, probabilities=dict.fromkeys(Regime, 1.0 / len(Regime)))


def regime_features(series: CandleSeries) -> FloatArray:
    """Return how straight and how volatile the last 12 returns were, (n − 12, 2), each row known at its candle's close.

    Straightness is Kaufman's efficiency ratio, |sum of returns| / sum of |returns|; volatility is the logarithm of the
    root mean square return.

    Raises:
        BadCandles: If no row can be made.
    """
    return np.array(_feature_rows(series.closes))


def _feature_rows(closes: FloatArray) -> list[tuple[float, float]]:
    """Return `regime_features` row by row; each is made of its own 13 closes alone, to the last bit."""
    if len(closes) <= FEATURE_BARS:
        raise BadCandles("candles", f"{len(closes)}", f"more than {FEATURE_BARS} to see a regime")
    logs = list(map(math.log, closes.tolist()))
    returns = list(map(operator.sub, logs[1:], logs))
    lengths = list(map(abs, returns))
    squares = list(map(operator.mul, returns, returns))
    return [
        (
            abs(sum(returns[first : first + FEATURE_BARS])) / max(sum(lengths[first : first + FEATURE_BARS]), _LEAST_VOLATILITY),
            math.log(math.sqrt(sum(squares[first : first + FEATURE_BARS]) / FEATURE_BARS) + _LEAST_VOLATILITY),
        )
        for first in range(len(returns) - FEATURE_BARS + 1)
    ]


def fit_regimes(series: CandleSeries) -> RegimeModel:
    """Fit three regimes by expectation maximisation on past candles; the same candles give the same model.

    The most volatile state is called volatile; of the two others the straighter one is trending.

    Raises:
        BadCandles: If there are fewer than `MIN_FIT_CANDLES`.
    """
    if len(series) < MIN_FIT_CANDLES:
        raise BadCandles("candles", f"{len(series)}", f"at least {MIN_FIT_CANDLES} to fit regimes")
    from hmmlearn.hmm import GaussianHMM  # pyright: ignore[reportMissingTypeStubs]  # untyped, and loads scikit-learn

    features = regime_features(series)
    center, scale = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-9)
    hmm: Any = GaussianHMM(n_components=3, covariance_type="diag", n_iter=200, tol=1e-2, min_covar=1e-3, init_params="")
    hmm.startprob_, hmm.transmat_ = np.full(3, 1 / 3), _FIRST_TRANSITION
    hmm.means_, hmm.covars_ = _FIRST_MEANS, np.ones((3, 2))
    hmm.fit((features - center) / scale)
    means = np.asarray(hmm.means_, dtype=np.float64)
    volatile = int(means[:, 1].argmax())
    trending = max((state for state in range(3) if state != volatile), key=lambda state: float(means[state, 0]))
    labels = [Regime.RANGING] * 3
    labels[volatile], labels[trending] = Regime.VOLATILE, Regime.TRENDING
    return RegimeModel(
        start=_floored(np.asarray(hmm.startprob_, dtype=np.float64)),
        transition=_floored(np.asarray(hmm.transmat_, dtype=np.float64)),
        means=means,
        # hmmlearn hands diagonal covariances out as full matrices.
        variances=np.diagonal(np.asarray(hmm.covars_, dtype=np.float64), axis1=1, axis2=2).copy(),
        center=center,
        scale=scale,
        labels=tuple(labels),
    )


def _floored(probabilities: FloatArray) -> FloatArray:
    floored = np.nan_to_num(probabilities) + _LEAST_PROBABILITY
    return floored / floored.sum(axis=-1, keepdims=True)
