"""What kind of reason a decision has: few words for the many sentences that the engine says."""

from __future__ import annotations

import re

NO_REASON = "none"  # accepted as it was
OTHER_REASON = "other"

# Begins of sentences of trading.decision and trading.gates; the kinds of gates are named as their functions are.
_KINDS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("uncertainty", r"an uncertainty of "),
        ("quality", r"a quality of "),
        ("stop_distance", r"the stop .* lies within "),
        ("target_distance", r"the target .* lies within "),
        ("regime", r"an? \w+ market gets no position"),
        ("size", r"the size is below one lot"),
        ("kill_switch", r"the kill switch is "),
        ("weekend", r"the market is closed$|the week closes in "),
        ("session", r"none of the sessions "),
        ("stale_candle", r"the candle closed |the clock stands "),
        ("stale_forecast", r"no forecast of the last |the forecast is "),
        ("spread", r"a spread of "),
        ("daily_loss", r"\S+ % lost today"),
        ("drawdown", r"\S+ % below the peak"),
        ("cool_off", r"cooling off "),
        ("foreign", r"the broker holds a position "),
        ("one_position", r"a position in \w+ is open"),
        ("max_positions", r"\S+ positions are open"),
        ("correlation", r"the correlation with |goes with "),
        ("symbol_exposure", r"one symbol is limited "),
        ("currency_exposure", r"\S+ exposure is limited "),
        ("margin", r"\S+ % of equity has to stay free of margin"),
    )
)
REASON_KINDS = (NO_REASON, *(kind for kind, _ in _KINDS), OTHER_REASON)


def reason_kind(reason: str) -> str:
    """Return one of `REASON_KINDS`; of several cuts the last, which is the tightest."""
    last = reason.rsplit("; ", 1)[-1]
    if not last:
        return NO_REASON
    return next((kind for kind, begin in _KINDS if begin.match(last)), OTHER_REASON)
