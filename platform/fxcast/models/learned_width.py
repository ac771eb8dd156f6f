"""The online calibration of one horizon while it serves: what is stored between one outcome and the next."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from fxcast.models.online_calibration import OnlineCalibration, rate_for

_ONLY = 1  # the one horizon's name in its calibration


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownOutcome:
    """A forecast's outcome; `inside` if it lay in [q05, q95] as that was given out."""

    made_at: datetime
    target_at: datetime
    inside: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedWidth:
    """An `OnlineCalibration` of one horizon, with what it takes to go on.

    Fed forecasts that were calibrated by it, its widths are those of `online_calibration.calibrated_in_turn`, whose rate for the
    longest delay of a period is known here once the first outcome is: forecasts made at even intervals all wait as long.

    Attributes:
        log_width: Logarithm of the factor on the spread; 0 changes nothing.
        learned_until: When the last outcome that taught it became known; None before the first.
        outcomes_learned: How many did.
        delay: Most forecasts made until an outcome was known, its own included; 0 before the first. The rate follows from it.
    """

    log_width: float = 0.0
    learned_until: datetime | None = None
    outcomes_learned: int = 0
    delay: int = 0

    @property
    def factor(self) -> float:
        """What the spread of a forecast is multiplied by."""
        return float(np.exp(self.log_width))

    def after(self, outcomes: Iterable[KnownOutcome], made_at: Sequence[datetime]) -> LearnedWidth:
        """Return what it becomes when outcomes are known.

        They teach in the order in which they became known. One that became known at `learned_until` or before, but was told late,
        teaches nothing: the width had gone on without it.

        Args:
            outcomes: Of different forecasts, in any order.
            made_at: When forecasts were made, ascending; all from the first of `outcomes` to the last one's outcome.
        """
        learned = self
        since = self.learned_until
        told = (outcome for outcome in outcomes if since is None or outcome.target_at > since)
        for outcome in sorted(told, key=lambda each: (each.target_at, each.made_at)):
            waited = bisect_left(made_at, outcome.target_at) - bisect_left(made_at, outcome.made_at)
            delay = max(learned.delay, waited)
            calibration = OnlineCalibration(horizons_minutes=(_ONLY,), log_widths=(learned.log_width,), rate=rate_for(delay))
            learned = LearnedWidth(
                log_width=calibration.learned(_ONLY, inside=outcome.inside).log_widths[0],
                learned_until=outcome.target_at,
                outcomes_learned=learned.outcomes_learned + 1,
                delay=delay,
            )
        return learned
