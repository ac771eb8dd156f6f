"""What can't be tuned for all, or for one symbol or regime, is refused when settings are loaded."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from fxcast.trading.config import TradingConfig


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (
            [{"values": {"sizing.kelly_fractoin": 0.5}}],
            "all symbols, all regimes: unknown path 'sizing.kelly_fractoin'; did you mean",
        ),
        ([{"symbol": "EURUSD", "values": {"sizing.kelly_fraction": 2}}], "EURUSD, all regimes: sizing.kelly_fraction: found 2: "),
        ([{"values": {"ldm4ts_num_samples": 30}}], "found ldm4ts_num_samples; allowed: what changes no question"),
        ([{"values": {"ldm4ts_horizons": [15, 60]}}], "found ldm4ts_horizons; allowed: what changes no question"),
        ([{"values": {"use_ldm4ts": False}}], "use_ldm4ts: can't be searched"),
        ([{"values": {"tuned": None}}], "tuned: can't be searched"),
        (
            [{"regime": "volatile", "values": {"risk.cool_off_minutes": 5}}],
            "all symbols, volatile: found risk.cool_off_minutes, which is",
        ),
        ([{"symbol": "eurusd", "values": {}}], "String should match pattern"),
        ([{"regime": "stormy", "values": {}}], "Input should be 'trending', 'ranging' or 'volatile'"),
        ([{"symbol": "EURUSD", "values": {}}] * 2, "EURUSD, all regimes: found twice; allowed: each symbol and regime once"),
        (
            [
                {"values": dict.fromkeys([f"quality.weights.{name}" for name in ("consistency", "confirmation", "strength")], 0)},
                {
                    "symbol": "EURUSD",
                    "values": dict.fromkeys(
                        [f"quality.weights.{name}" for name in ("timing", "risk_reward", "regime_alignment")], 0
                    ),
                },
            ],
            "EURUSD, all regimes: .*found no weight above zero in trending",
        ),
    ],
)
def test_what_cannot_be_tuned_is_refused_at_load(entries: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TradingConfig.model_validate({"tuned": entries})


def test_a_problem_of_the_base_is_told_without_one_of_what_is_tuned() -> None:
    with pytest.raises(ValidationError, match="min_quality") as refused:
        TradingConfig.model_validate({"min_quality": 2.0, "tuned": [{"values": {"sizing.kelly_fraction": 0.5}}]})
    assert refused.value.error_count() == 1
