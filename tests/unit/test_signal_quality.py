"""The dimensions of quality, each on a case worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.signal import Direction, QualityScore, Regime, Signal, SignalSource
from fxcast.signals.fusion import Consensus, fuse
from fxcast.signals.quality import SignalQualityScorer
from fxcast.signals.regime import RegimeView
from tests.factories import NOON, make_prediction, make_series

SCORER = SignalQualityScorer(uncertainty_threshold=0.5, max_spread_pips=3.0, forecast_spread_pips=1.0)
OVERLAP = datetime(2017, 3, 7, 15, tzinfo=UTC)  # London and New York
SYDNEY_ONLY = datetime(2017, 3, 7, 22, tzinfo=UTC)


def consensus_of(source: SignalSource = SignalSource.LDM4TS_FORECAST, *, at: datetime = NOON, symbol: str = "EURUSD") -> Consensus:
    signal = Signal(
        source=source,
        symbol=symbol,
        made_at=at,
        horizon_minutes=240,
        direction=Direction.BULL,
        strength=0.6,
        price=1.10,
        stop=1.098,
        target=1.106,
    )
    consensus = fuse([signal], made_at=at, price=1.10)
    assert consensus is not None
    return consensus


def view(regime: Regime) -> RegimeView:
    return RegimeView(regime=regime, probabilities={each: 1.0 if each is regime else 0.0 for each in Regime})


def score(
    consensus: Consensus,
    *,
    prediction: LDM4TSPrediction | None = None,
    spread_pips: float = 1.5,
    regime: Regime = Regime.TRENDING,
    uncertainty_pct: float | None = None,
) -> QualityScore:
    return SCORER.score(
        consensus,
        window=make_series([1.1 + 0.0005 * bar for bar in range(100)]),
        prediction=prediction,
        spread_pips=spread_pips,
        regimes=view(regime),
        uncertainty_pct=uncertainty_pct,
    )


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
