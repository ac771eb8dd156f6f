"""Which state the market is in: a Gaussian hidden Markov model, filtered, never smoothed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fxcast.domain.candle import CandleSeries, FloatArray, to_datetime
from fxcast.domain.signal import Regime
from fxcast.errors import BadCandles

FEATURE_BARS = 12
MIN_FIT_CANDLES = 300
_ARRAYS = ("start", "transition", "means", "variances", "center", "scale")
# Half a hundredth of a pip per candle: keeps the logarithm finite where the price stood still.
_LEAST_VOLATILITY = 5e-7
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

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RegimeModel) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(self.means.tobytes())

    def filtered_path(self, series: CandleSeries) -> FloatArray:
        """Return the probability of each state at each candle, given the candles up to it: (n − 12, 3).

        The first row belongs to candle `FEATURE_BARS`, the first whose features are known.

        Source: the forward recursion, Rabiner 1989, doi:10.1109/5.18626.
        """
        likelihoods = self._likelihoods(regime_features(series))  # (n - 12, 3)
        path = np.empty_like(likelihoods)
        predicted = self.start
        for position, likelihood in enumerate(likelihoods):
            path[position] = _updated(predicted, likelihood)
            predicted = path[position] @ self.transition
        return path

    def filtered_step(self, before: FloatArray, window: CandleSeries) -> FloatArray:
        """Return the probability of each state at a window's last candle, (3,), given those at the candle before it, (3,).

        One step of the recursion of `filtered_path`, from the last `FEATURE_BARS` returns alone.
        """
        logs = np.log(window.closes[-FEATURE_BARS - 1 :])
        returns = (logs[1:] - logs[:-1])[None]  # (1, 12)
        return _updated(before @ self.transition, self._likelihoods(_features_of(returns))[0])

    def _likelihoods(self, features: FloatArray) -> FloatArray:
        """Return how likely each state makes features, (rows, 2): (rows, 3), each row up to a factor of its own."""
        standardised = (features - self.center) / self.scale  # (rows, 2)
        distances = (standardised[:, None, :] - self.means) ** 2 / self.variances  # (rows, 3, 2)
        logs = -0.5 * (distances + np.log(self.variances)).sum(axis=2)  # (rows, 3)
        return np.exp(logs - logs.max(axis=1, keepdims=True)) + 1e-300

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
        at = to_datetime(window.close_times[-1])
        if at == self.as_of:
            return self
        taken = self.candles_since_fit + 1
        if self.model is None:
            return replace(self, as_of=at, candles_since_fit=taken)
        follows = len(window) > FEATURE_BARS and self.as_of == to_datetime(window.close_times[-2])
        if follows and self.probabilities:
            last = self.model.filtered_step(np.array(self.probabilities), window)
        else:
            last = self.model.filtered_path(window)[-1]
        return replace(self, probabilities=tuple(last.tolist()), as_of=at, candles_since_fit=taken)

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
    if len(series) <= FEATURE_BARS:
        raise BadCandles("candles", f"{len(series)}", f"more than {FEATURE_BARS} to see a regime")
    return _features_of(sliding_window_view(np.diff(np.log(series.closes)), FEATURE_BARS))


def _features_of(returns: FloatArray) -> FloatArray:
    """Return straightness and volatility of rows of returns, (rows, 12): (rows, 2)."""
    travelled = np.abs(returns).sum(axis=1)
    straightness = np.abs(returns.sum(axis=1)) / np.maximum(travelled, _LEAST_VOLATILITY)
    volatility = np.log(np.sqrt((returns**2).mean(axis=1)) + _LEAST_VOLATILITY)
    return np.column_stack([straightness, volatility])


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


def _updated(predicted: FloatArray, likelihood: FloatArray) -> FloatArray:
    """Return the probabilities of states, (3,), that were predicted, (3,), after what was seen."""
    weighted = predicted * likelihood
    return weighted / weighted.sum()


def _floored(probabilities: FloatArray) -> FloatArray:
    floored = np.nan_to_num(probabilities) + _LEAST_PROBABILITY
    return floored / floored.sum(axis=-1, keepdims=True)
