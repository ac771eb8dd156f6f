"""The dimensions of quality, each on a case worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.signal import DIMENSIONS, Direction, QualityScore, Regime, SignalKind, SignalSource
from fxcast.signals.fusion import Consensus, fuse
from fxcast.signals.quality import QualityConfig, SignalQualityScorer, explain
from fxcast.signals.sources import MarketView
from tests.factories import NOON, make_prediction, make_series
from tests.signal_factories import certain, make_signal, make_view

SCORER = SignalQualityScorer(uncertainty_threshold=0.5, max_spread_pips=3.0, forecast_spread_pips=1.0)
OVERLAP = datetime(2017, 3, 7, 15, tzinfo=UTC)  # London and New York
SYDNEY_ONLY = datetime(2017, 3, 7, 22, tzinfo=UTC)


def consensus_of(source: SignalSource = SignalSource.LDM4TS_FORECAST, *, at: datetime = NOON, symbol: str = "EURUSD") -> Consensus:
    consensus = fuse([make_signal(source, made_at=at, symbol=symbol, reward=0.006)], made_at=at, price=1.10)
    assert consensus is not None
    return consensus


def score(
    consensus: Consensus,
    *,
    prediction: LDM4TSPrediction | None = None,
    view: MarketView | None = None,
    spread_pips: float = 1.5,
    regime: Regime = Regime.TRENDING,
    uncertainty_pct: float | None = None,
    scorer: SignalQualityScorer = SCORER,
) -> QualityScore:
    return scorer.score(
        consensus,
        view=make_view(spread_pips=spread_pips) if view is None else view,
        prediction=prediction,
        regimes=certain(regime),
        uncertainty_pct=uncertainty_pct,
    )


def weighing(*weights: float) -> SignalQualityScorer:
    """Return a scorer that weighs so in a trend."""
    return replace(SCORER, config=QualityConfig.model_validate({"weights": {"trending": weights}}))


def test_risk_reward_of_three_to_one_is_three_quarters() -> None:
    assert score(consensus_of()).risk_reward == pytest.approx(0.75)  # target 60 pips, stop 20 pips away: 3 / (1 + 3)


def test_confirmation_is_the_share_of_horizons_that_agree() -> None:
    horizons = {240: (1.101, 0.002), 960: (1.102, 0.004), 1920: (1.10, 0.004), 3840: (1.098, 0.01)}
    # two agree, one is neutral (half), one is against: 2.5 / 4
    assert score(consensus_of(), prediction=make_prediction(horizons)).confirmation == pytest.approx(0.625)


def test_confirmation_without_a_forecast_comes_from_the_trend_on_two_scales() -> None:
    rising = consensus_of(SignalSource.TREND)
    falling = replace(rising, direction=Direction.BEAR)
    assert score(rising).confirmation == 1.0
    assert score(falling).confirmation == 0.0


def test_timing_is_best_when_london_and_new_york_are_open_and_the_spread_is_nothing() -> None:
    assert score(consensus_of(at=OVERLAP), spread_pips=0.0).timing == pytest.approx(1.0)


def test_timing_falls_with_the_spread_and_outside_the_main_sessions() -> None:
    # Sydney alone is half a session of two: liquidity 0.25; 1.5 of 3 pips leave a tightness of 0.5.
    assert score(consensus_of(at=SYDNEY_ONLY)).timing == pytest.approx((0.25 + 0.5) / 2)
    assert score(consensus_of(at=SYDNEY_ONLY), spread_pips=9.0).timing == pytest.approx(0.125)


def test_a_pair_is_at_home_in_its_own_session() -> None:
    assert score(consensus_of(at=SYDNEY_ONLY, symbol="AUDUSD")).timing == pytest.approx((0.5 + 0.5) / 2)


def test_trend_fits_a_trending_market_and_reversion_a_ranging_one() -> None:
    trend, reversion = consensus_of(SignalSource.TREND), consensus_of(SignalSource.MEAN_REVERSION)
    assert score(trend, regime=Regime.TRENDING).regime_alignment > score(trend, regime=Regime.RANGING).regime_alignment
    assert score(reversion, regime=Regime.RANGING).regime_alignment > score(reversion, regime=Regime.TRENDING).regime_alignment


def test_weights_depend_on_the_regime() -> None:
    means = {regime: score(consensus_of(), regime=regime, spread_pips=3.0).weighted_mean for regime in Regime}
    assert len({round(mean, 9) for mean in means.values()}) == 3


def test_uncertainty_takes_its_share_off_the_weighted_mean() -> None:
    certain, half, far = (score(consensus_of(), uncertainty_pct=value) for value in (None, 0.25, 5.0))
    assert certain.total == certain.weighted_mean
    assert half.uncertainty_penalty == pytest.approx(0.15)  # half the threshold of half the way to 0.3
    assert half.total == pytest.approx(half.weighted_mean * 0.85)
    assert far.uncertainty_penalty == pytest.approx(0.3)


def test_the_penalty_for_uncertainty_is_the_traders() -> None:
    careless = replace(SCORER, config=QualityConfig(uncertainty_weight=0.0))
    careful = replace(SCORER, config=QualityConfig(uncertainty_weight=1.0))
    assert score(consensus_of(), uncertainty_pct=0.25, scorer=careless).uncertainty_penalty == 0.0
    assert score(consensus_of(), uncertainty_pct=0.25, scorer=careful).uncertainty_penalty == pytest.approx(0.5)
    assert score(consensus_of(), uncertainty_pct=0.5, scorer=careful).total == 0.0


RISING = make_series([1.1 + 0.0005 * bar for bar in range(60)], timeframe="4h")
FALLING = make_series([1.2 - 0.0005 * bar for bar in range(60)], timeframe="1d")


def test_confirmation_is_the_mean_of_horizons_and_of_longer_timeframes() -> None:
    horizons = make_prediction({240: (1.101, 0.002), 960: (1.102, 0.004), 1920: (1.10, 0.004), 3840: (1.098, 0.01)})
    both_rise = make_view(higher={"4h": RISING})
    assert score(consensus_of(), view=both_rise, prediction=horizons).confirmation == pytest.approx((0.625 + 1.0) / 2)
    one_of_two = make_view(higher={"4h": RISING, "1d": FALLING})
    # The price now, 1.1495, is below the daily average of 1.1753 and above the four-hourly one.
    assert score(consensus_of(), view=one_of_two, prediction=horizons).confirmation == pytest.approx((0.625 + 0.5) / 2)
    assert score(consensus_of(SignalSource.TREND), view=one_of_two).confirmation == 0.5


def test_a_longer_timeframe_that_is_hardly_known_confirms_nothing() -> None:
    short = make_view(higher={"1d": FALLING.slice(0, 10)})
    assert score(consensus_of(SignalSource.TREND), view=short).confirmation == 1.0  # the trend of the window itself


def test_every_forecast_in_use_confirms_or_denies() -> None:
    bull, bear = make_prediction({240: (1.102, 0.002)}), make_prediction({240: (1.098, 0.002)})
    agreeing = make_view(predictions={"ldm4ts_forecast": bull})
    divided = make_view(predictions={"ldm4ts_forecast": bull, "garch_forecast": bear})
    assert score(consensus_of(), view=agreeing, prediction=bull).confirmation == 1.0
    assert score(consensus_of(), view=divided, prediction=bull).confirmation == 0.5


def test_a_mean_inside_the_spread_of_the_instrument_is_neither_for_nor_against() -> None:
    yen = make_series([110 + 0.05 * bar for bar in range(100)], symbol="USDJPY")
    prediction = make_prediction({240: (110.004, 0.2)}, price=110.0, symbol="USDJPY")  # 0.4 of a pip of 0.01
    quality = score(consensus_of(symbol="USDJPY"), view=make_view(yen), prediction=prediction)
    assert quality.confirmation == 0.5


def test_what_a_users_source_rests_on_decides_how_well_it_fits_the_regime() -> None:
    fits = dict[SignalKind, float]()
    for kind in SignalKind:
        consensus = fuse([make_signal("my_own", kind=kind)], made_at=NOON, price=1.10)
        assert consensus is not None
        fits[kind] = score(consensus, regime=Regime.RANGING).regime_alignment
    assert max(fits, key=fits.__getitem__) is SignalKind.MEAN_REVERSION
    assert fits[SignalKind.TREND] == fits[SignalKind.CONFLUENCE] == min(fits.values())


@pytest.mark.parametrize("number", range(6))
def test_each_dimension_weighs_what_the_trader_says(number: int) -> None:
    weights = tuple(1.0 if each == number else 0.0 for each in range(6))
    quality = score(consensus_of(), scorer=weighing(*weights))
    assert quality.weights == weights
    assert quality.weighted_mean == getattr(quality, DIMENSIONS[number])


def test_weights_given_for_one_regime_leave_the_others_theirs() -> None:
    own, config = QualityConfig(), QualityConfig.model_validate({"weights": {"ranging": [0, 0, 0, 0, 1, 0]}})
    assert config.weights[Regime.RANGING] == (0, 0, 0, 0, 1, 0)
    assert config.weights[Regime.TRENDING] == own.weights[Regime.TRENDING]
    assert set(config.weights) == set(Regime)


@pytest.mark.parametrize("regime", Regime)
def test_the_weights_that_fxcast_comes_with_are_means_and_differ_by_regime(regime: Regime) -> None:
    weights = QualityConfig().weights
    assert sum(weights[regime]) == pytest.approx(1.0)
    assert list(weights.values()).count(weights[regime]) == 1
    assert QualityConfig.model_validate({"weights": weights}).weights == weights


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ([0.2, 0.2, 0.2, 0.2, 0.2, 0.2], "volatile: .* add up to 1.2; allowed: .* add up to 1"),
        ([0.1, 0.1, 0.1, 0.1, 0.1, 0.1], "add up to 0.6"),
        ([1.5, -0.5, 0, 0, 0, 0], "volatile: 1.5, -0.5.*zero or more"),
        ([float("nan"), 1, 0, 0, 0, 0], "volatile: nan"),
        ([0.5, 0.5], "weights.volatile"),
    ],
)
def test_weights_that_are_no_mean_are_refused_by_regime_and_sum(row: list[float], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        QualityConfig.model_validate({"weights": {"volatile": row}})


def test_a_row_written_with_few_digits_may_miss_one_by_a_millionth() -> None:
    third = 0.333333
    assert QualityConfig.model_validate({"weights": {"volatile": [third, third, third, 1e-6, 0, 0]}})
    with pytest.raises(ValidationError, match="add up to"):
        QualityConfig.model_validate({"weights": {"volatile": [0.333, 0.333, 0.333, 0, 0, 0]}})


def test_a_regime_may_have_a_minimum_of_its_own() -> None:
    config = QualityConfig.model_validate({"min_total": {"volatile": 0.7}})
    assert config.least_total(Regime.VOLATILE, 0.45) == 0.7
    assert config.least_total(Regime.RANGING, 0.45) == 0.45
    with pytest.raises(ValidationError, match=r"volatile: 1.5; allowed: from 0 to 1"):
        QualityConfig.model_validate({"min_total": {"volatile": 1.5}})


def test_the_costs_add_up_to_what_is_missing_from_a_perfect_score() -> None:
    quality = score(consensus_of(at=SYDNEY_ONLY), prediction=make_prediction({240: (1.098, 0.002)}), uncertainty_pct=0.3)
    assert sum(quality.costs.values()) == pytest.approx(1.0 - quality.total)
    assert quality.costs["confirmation"] == pytest.approx(0.25)  # nothing confirms: the whole weight in a trend


def test_an_explanation_names_the_largest_cost_first_with_its_arithmetic() -> None:
    quality = QualityScore(
        consistency=1.0,
        confirmation=0.5,
        strength=0.8,
        timing=0.52,
        risk_reward=0.7,
        regime_alignment=1.0,
        weighted_mean=0.7,
        uncertainty_penalty=0.2,
        total=0.7 * 0.8,
        weights=(0.0, 0.2, 0.25, 0.25, 0.1, 0.2),
    )
    assert explain(quality) == (
        "uncertainty cost 0.14: penalty 0.20 × weighted mean 0.70",
        "timing cost 0.12: (1 − 0.52) × weight 0.25",
        "confirmation cost 0.10: (1 − 0.50) × weight 0.20",
        "strength cost 0.05: (1 − 0.80) × weight 0.25",
        "risk_reward cost 0.03: (1 − 0.70) × weight 0.10",
    )


def test_no_dimension_is_a_constant() -> None:
    quiet = score(consensus_of(), prediction=make_prediction())
    rivals = [make_signal("ldm4ts_forecast", strength=0.9), make_signal("my_own", Direction.BEAR, 0.2)]
    consensus = fuse(rivals, made_at=SYDNEY_ONLY.replace(hour=12), price=1.101)
    assert consensus is not None
    other = score(consensus, spread_pips=0.2, prediction=make_prediction({240: (1.098, 0.002)}), regime=Regime.VOLATILE)
    assert all(getattr(quiet, name) != getattr(other, name) for name in DIMENSIONS)
