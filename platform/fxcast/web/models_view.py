"""What models were worth, at training and since: the numbers and charts of page Models."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

import numpy as np
import plotly.graph_objects as go
from scipy.stats import binom
from statsmodels.stats.proportion import proportion_confint

from fxcast.adapters.storage.model_history import QualityPoint
from fxcast.adapters.storage.recent import ForecastKind, RecentForecast
from fxcast.adapters.storage.registry import ListedModel
from fxcast.domain.candle import CandleSeries
from fxcast.domain.instrument import default_instrument
from fxcast.evaluation.rolling_quality import RollingQuality, rolling_quality
from fxcast.evaluation.rolling_walk import AgainstWalk, against_walk, independent_forecasts
from fxcast.evaluation.scores import LEVEL, MIN_FORECASTS, PIT_BINS, pit_index, randomised_pit
from fxcast.web.charts import BLUE, GREY, VERMILLION

_MINUTES_A_DAY = 1440
_NOMINAL = 0.9
_NAME = re.compile(r"(?P<what>.+?)(?:_(?P<timeframe>1m|5m|15m|1h|4h|1d))?_(?P<minutes>\d+)")
_SCORES = {
    "validation_crps_ratio": ("CRPS over the random walk's (below 1: better)", "{:.3f}"),
    "validation_crps_skill": ("CRPS better than the random walk's by", "{:+.1%}"),
    "validation_coverage_90": ("inside the 90 % interval (right: 90 %)", "{:.1%}"),
    "validation_pit_index": ("PIT index (1: the histogram is flat)", "{:.3f}"),
    "validation_mse_ratio": ("squared error of the mean, over that of the last price", "{:.3f}"),
    "validation_mae_ratio": ("absolute error of the median, over that of the last price", "{:.3f}"),
    "validation_direction": ("direction right", "{:.1%}"),
    "width": ("samples widened by a factor of", "{:.2f}"),
    "mean_weight": ("of the mean's distance to the last price is kept", "{:.0%}"),
}
LIVE_COLUMNS = {
    "scored": "The last forecasts whose outcome is known; apart are those that do not overlap, and only they count as evidence.",
    "CRPS": "How far the whole forecast lay from the outcome, on average; less is better.",
    "random walk's": "CRPS of a random walk as wide as the market moved lately, on the same candles.",
    "better by": "How much smaller the model's CRPS is than the random walk's.",
    "error ratio": "Absolute error of the median over that of the last price; below 1 is better.",
    "direction right": "Share of the forecasts that took a side whose side was right.",
    "90 % covers": "Share of outcomes inside the 90 % interval; behind it Wilson's 95 % interval for those that are apart.",
}
_COURSE = {
    "train_windows": ("windows trained on", "{:,}"),
    "validation_windows": ("windows validated on", "{:,}"),
    "calibration_windows": ("windows calibrated on", "{:,}"),
    "step": ("steps trained", "{:,}"),
    "best_step": ("step with the best loss, whose weights these are", "{:,}"),
    "best_loss": ("best validation loss", "{:.4f}"),
    "validation_loss": ("last validation loss", "{:.4f}"),
    "train_loss": ("last training loss", "{:.4f}"),
    "stopped_by": ("ended by", "{}"),
    "seconds": ("training took, s", "{:,.0f}"),
    "code_version": ("made by fxcast", "{}"),
    "learned_width_step": ("steps of the learned width", "{:,}"),
    "learned_width_skill": ("learned width better than the random walk's by", "{:+.1%}"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingScores:
    """What a registered model says of its training.

    Attributes:
        columns: Headings: all horizons, and each one that a score was given for, the shortest first.
        scores: In words, and a value a column, None where there is none.
        others: How the training went, in words, and what is unknown here under its own name.
    """

    columns: tuple[str, ...]
    scores: tuple[tuple[str, tuple[str | None, ...]], ...]
    others: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pit:
    """A PIT histogram.

    Attributes:
        shares: Of the outcomes in each tenth of the forecasts' law, (PIT_BINS,).
        low: What chance allows a share of right forecasts to come to, at least.
        high: At most.
        index: 1 is flat, 0.1 is everything in one bin.
    """

    forecasts: int
    shares: tuple[float, ...]
    low: float
    high: float
    index: float

    @property
    def said(self) -> str:
        """What the histogram shows."""
        outside = sum(not self.low <= share <= self.high for share in self.shares)
        return (
            f"PIT histogram of {self.forecasts:,} outcomes, PIT index {self.index:.2f}: {outside} of {len(self.shares)} bars "
            f"outside what chance allows ({self.low:.0%} to {self.high:.0%})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveScores:
    """What the last forecasts of one kind were worth.

    Attributes:
        scores: As they were stored, or as they are now where none were.
        are_stored: Which of the two.
        independent: How many forecasts do not overlap.
        covers: Interval of the coverage, as far as so many independent forecasts tell.
        walk: Against the random walk on the same candles; None if the store has none of them.
        pit: None if no samples were kept.
    """

    scores: RollingQuality
    are_stored: bool
    independent: int
    covers: tuple[float, float]
    walk: AgainstWalk | None
    pit: Pit | None

    @property
    def cells(self) -> tuple[str | None, ...]:
        """The numbers in words, one for each of `LIVE_COLUMNS`; None for what is unknown."""
        scores, walk = self.scores, self.walk
        gain = None if walk is None or walk.skill is None else f"{walk.skill:+.1%}"
        if gain is not None and walk is not None and walk.forecasts != scores.forecasts:
            gain = f"{gain} on {walk.forecasts:,}"
        return (
            f"{scores.forecasts:,} ({self.independent:,} apart)",
            None if scores.crps_pips is None else f"{scores.crps_pips:.1f} pips",
            "no candles" if walk is None else f"{walk.crps_walk_pips:.1f} pips",
            gain,
            None if scores.mae_ratio is None else f"{scores.mae_ratio:.3f}",
            "took no side" if scores.direction_right is None else f"{scores.direction_right:.0%} of {scores.direction_windows:,}",
            f"{scores.coverage_90:.1%} ({self.covers[0]:.0%} to {self.covers[1]:.0%})",
        )

    @property
    def verdict(self) -> tuple[str, str]:
        """What the coverage says, in words, and how good that is; see `page.mark`."""
        low, high = self.covers
        if low <= _NOMINAL <= high:
            return ("fits 90 %", "good") if self.independent >= MIN_FORECASTS else ("too few", "plain")
        return ("too narrow", "bad") if high < _NOMINAL else ("too wide", "warn")


def horizon_words(minutes: int) -> str:
    """Return a horizon as people say it."""
    for size, name in ((_MINUTES_A_DAY, "day"), (60, "hour")):
        if minutes % size == 0:
            return f"{minutes // size:,} {name}{'s' if minutes != size else ''}"
    return f"{minutes} minutes"


def kind_words(kind: ForecastKind) -> str:
    """Return what a kind of forecast is of, without its model."""
    return f"{kind.symbol} {kind.timeframe}, {horizon_words(kind.horizon_minutes)} ahead"


def in_place_of(model: ListedModel, listed: Sequence[ListedModel]) -> ListedModel | None:
    """Return the model that is in use where another would be: for the same pair and timeframe."""
    use = (model.model.symbol, model.model.timeframe)
    return next(
        (each for each in listed if each.is_active and (each.model.symbol, each.model.timeframe) == use and each != model), None
    )


def training_scores(metrics: Mapping[str, Any]) -> TrainingScores:
    """Put the metrics of a registered model in order and in words."""
    of_all: dict[str, str] = {}
    by_horizon: dict[str, dict[tuple[str, int], str]] = {}
    others: list[tuple[str, str]] = []
    for name, value in metrics.items():
        found = _NAME.fullmatch(name)
        if name in _SCORES:
            of_all[name] = _shown(_SCORES[name][1], value)
        elif found is not None and found["what"] in _SCORES:
            key = (found["timeframe"] or "", int(found["minutes"]))
            by_horizon.setdefault(found["what"], {})[key] = _shown(_SCORES[found["what"]][1], value)
        elif name in _COURSE:
            others.append((_COURSE[name][0], _shown(_COURSE[name][1], value)))
        else:
            others.append((name, _shown("{:.4g}" if isinstance(value, float) else "{}", value)))
    horizons = sorted({key for values in by_horizon.values() for key in values})
    named = [name for name in _SCORES if name in of_all or name in by_horizon]
    return TrainingScores(
        columns=("all horizons", *(f"{timeframe} {horizon_words(minutes)}".strip() for timeframe, minutes in horizons)),
        scores=tuple(
            (_SCORES[name][0], (of_all.get(name), *(by_horizon.get(name, {}).get(key) for key in horizons))) for name in named
        ),
        others=tuple(others),
    )


def measured_on(config: Mapping[str, Any]) -> str:
    """Say what scores at training were measured on, as far as the configuration of a training tells."""
    period = config.get("validation")
    dates = ""
    if isinstance(period, list) and len(period) == 2:
        dates = f" ({str(period[0])[:10]} to {str(period[1])[:10]})"
    return (
        f"Measured on some windows of the validation period{dates}, which also chose the weights: what it was worth later is above."
    )


def live_scores(
    forecasts: Sequence[RecentForecast],
    horizon_minutes: int,
    *,
    symbol: str,
    stored: RollingQuality | None,
    candles: CandleSeries | None,
) -> LiveScores:
    """Score the last forecasts of one kind.

    Args:
        forecasts: One or more, oldest first.
        stored: Scores that are kept of them; by default they are scored here, in the same way.
        candles: That the forecasts were made from; None if there are none.
    """
    pip = float(default_instrument(symbol).pip)
    made_at = [each.made_at for each in forecasts]
    price, actual = np.array([each.price for each in forecasts]), np.array([each.actual_price for each in forecasts])
    samples = [each.samples for each in forecasts]
    scores = stored or rolling_quality(
        np.array([(each.q05, each.q50, each.q95) for each in forecasts]),
        actual,
        price,
        samples=samples,
        directions_right=[each.direction_right for each in forecasts],
        pip=pip,
    )
    walk = None
    if candles is not None:
        walk = against_walk(candles, horizon_minutes, made_at=made_at, price=price, actual=actual, samples=samples, pip=pip)
    return LiveScores(
        scores=scores,
        are_stored=stored is not None,
        independent=independent_forecasts(made_at, horizon_minutes),
        covers=share_interval(scores.coverage_90, independent_forecasts(made_at, horizon_minutes)),
        walk=walk,
        pit=pit_of(forecasts, horizon_minutes),
    )


def share_interval(share: float, independent: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share of overlapping forecasts, as wide as that of those that do not overlap."""
    ends: Any = proportion_confint(share * independent, independent, alpha=1.0 - LEVEL, method="wilson")
    return float(ends[0]), float(ends[1])


def pit_of(forecasts: Sequence[RecentForecast], horizon_minutes: int) -> Pit | None:
    """Return the PIT histogram of those forecasts whose samples were kept; None if there are none."""
    kept = [each for each in forecasts if each.samples]
    if not kept:
        return None
    by_count: dict[int, list[RecentForecast]] = {}
    for each in kept:
        by_count.setdefault(len(each.samples), []).append(each)
    places = np.concatenate(
        [
            randomised_pit(np.array([each.samples for each in same]), np.array([each.actual_price for each in same]), seed=count)
            for count, same in by_count.items()
        ]
    )
    independent = independent_forecasts([each.made_at for each in kept], horizon_minutes)
    tail = (1.0 - LEVEL) / 2
    low, high = (float(binom.ppf(each, independent, 1.0 / PIT_BINS)) / independent for each in (tail, 1.0 - tail))
    counts = np.histogram(places, bins=PIT_BINS, range=(0.0, 1.0))[0]
    return Pit(
        forecasts=len(kept),
        shares=tuple(float(share) for share in counts / len(kept)),
        low=low,
        high=high,
        index=pit_index(places),
    )


def pit_figure(pit: Pit) -> go.Figure:
    """Draw a PIT histogram with the band that chance allows."""
    figure = go.Figure()
    width = 100.0 / PIT_BINS
    figure.add_bar(
        x=[width * (place + 0.5) for place in range(PIT_BINS)],
        y=[100.0 * share for share in pit.shares],
        customdata=[f"{width * place:.0f} to {width * (place + 1):.0f} %" for place in range(PIT_BINS)],
        marker={"color": BLUE},
        hovertemplate="%{customdata}: %{y:.1f} % of the outcomes<extra></extra>",
    )
    figure.add_hrect(y0=100.0 * pit.low, y1=100.0 * pit.high, fillcolor=GREY, opacity=0.3, line_width=0)
    figure.add_hline(y=width, line={"color": VERMILLION, "width": 1.5, "dash": "dash"})
    figure.update_layout(bargap=0.08, showlegend=False)
    figure.update_xaxes(title="place in the forecast, %", range=[-2, 102], tickvals=list(range(0, 101, 20)))
    figure.update_yaxes(title="outcomes, %", range=[0, 115.0 * max(pit.high, *pit.shares)])
    return figure


def drift_figure(points: Sequence[QualityPoint], zone: tzinfo) -> go.Figure:
    """Draw coverage over time above, with the line where it should be, and the width of the online calibration below."""
    times: list[datetime] = [point.as_of.astimezone(zone).replace(tzinfo=None) for point in points]
    mode = "lines" if len(points) > 1 else "markers"
    figure = go.Figure()
    figure.add_scatter(
        x=times,
        y=[100.0 * point.coverage_90 for point in points],
        customdata=[point.forecasts for point in points],
        name="inside the 90 % interval, %",
        mode=mode,
        line={"color": BLUE, "width": 1.6},
        hovertemplate="%{y:.1f} % of the last %{customdata:,}",
    )
    figure.add_scatter(
        x=times,
        y=[point.log_width for point in points],
        customdata=[float(np.exp(point.log_width)) for point in points],
        name="log width",
        yaxis="y2",
        mode=mode,
        line={"color": VERMILLION, "width": 1.6, "dash": "dot"},
        hovertemplate="%{y:+.2f}: spread times %{customdata:.2f}",
    )
    dashed = {"color": GREY, "width": 1.5, "dash": "dash"}
    figure.add_hline(y=100.0 * _NOMINAL, line=dashed, annotation_text="90 %", annotation_position="bottom right")
    figure.add_shape(type="line", xref="x domain", x0=0, x1=1, yref="y2", y0=0, y1=0, line=dashed)
    figure.update_layout(
        xaxis={"anchor": "y2"},
        yaxis={"domain": [0.46, 1.0], "title": "inside, %"},
        yaxis2={"domain": [0.0, 0.38], "anchor": "x", "title": "log width"},
    )
    return figure


def _shown(pattern: str, value: Any) -> str:  # noqa: ANN401  # a value of any JSON type
    try:
        return pattern.format(value)
    except (TypeError, ValueError):  # not of the type that the name promises
        return str(value)
