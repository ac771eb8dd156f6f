"""Settings by path: reading a value and setting it again changes nothing, and weights stay weights."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from fxcast.domain.signal import DIMENSIONS, Regime
from fxcast.trading.config import ManagementConfig, SizingConfig, SizingMethod, TradingConfig
from fxcast.trading.parameters import Value, searchable_paths, value_of, with_values

SHARES = st.floats(0, 1)
ROWS = ("", *(f"{regime.value}." for regime in Regime))
FACTORS = st.dictionaries(
    st.sampled_from([f"quality.weights.{row}{name}" for row in ROWS for name in DIMENSIONS]), st.floats(0.001, 1000), max_size=12
)
SETTINGS = st.builds(
    TradingConfig,
    min_quality=SHARES,
    ldm4ts_horizons=st.sampled_from([(15, 60), (15, 60, 240), (60, 240)]),
    use_trend=st.booleans(),
    sizing=st.builds(
        SizingConfig,
        method=st.sampled_from(SizingMethod),
        regime_multipliers=st.dictionaries(st.sampled_from(Regime), SHARES),
    ),
    management=st.builds(
        ManagementConfig, stop_multiple=st.floats(0.1, 5), exit_uncertainty_pct=st.none() | st.floats(0.1, 2), trail_at_r=st.none()
    ),
)


def all_values(trading: TradingConfig) -> dict[str, Value]:
    return {path: value_of(trading, path) for path in searchable_paths()}


@given(base=SETTINGS, factors=FACTORS, path=st.sampled_from(searchable_paths()))
def test_setting_a_value_that_was_read_changes_nothing(base: TradingConfig, factors: dict[str, float], path: str) -> None:
    trading = with_values(base, factors)
    for values in ({path: value_of(trading, path)}, all_values(trading)):
        again = with_values(trading, values)
        assert all_values(again) == all_values(trading)
        assert again.quality.weights == trading.quality.weights
        # Every other field, too: only what holds for a regime anyway may now be written down.
        spelled_out = {"quality": trading.quality, "sizing": trading.sizing}
        assert again.model_copy(update=spelled_out) == trading
        assert again.sizing.model_copy(update={"regime_multipliers": {}}) == trading.sizing.model_copy(
            update={"regime_multipliers": {}}
        )


@given(base=SETTINGS, factors=FACTORS, more=FACTORS)
def test_weights_always_add_up_to_1_in_each_regime(base: TradingConfig, factors: dict[str, float], more: dict[str, float]) -> None:
    weights = with_values(with_values(base, factors), more).quality.weights
    assert set(weights) == set(Regime)
    for row in weights.values():
        assert min(row) >= 0
        assert math.isclose(sum(row), 1.0, abs_tol=1e-9)


@given(base=SETTINGS, factors=FACTORS)
def test_a_larger_factor_never_makes_a_weight_smaller(base: TradingConfig, factors: dict[str, float]) -> None:
    before = with_values(base, factors).quality.weights
    path = "quality.weights.timing"
    after = with_values(base, {**factors, path: min(1000.0, 2 * factors.get(path, 1.0))}).quality.weights
    place = DIMENSIONS.index("timing")
    assert all(after[regime][place] >= before[regime][place] - 1e-12 for regime in Regime)
