"""What Prometheus reads of the models' rolling scores."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import structlog

from fxcast.adapters.storage.database import Database
from fxcast.adapters.storage.quality import ModelQuality, newest_quality
from fxcast.adapters.storage.recent import ForecastKind, recent_forecasts
from fxcast.cluster.meters import Board, Meter, harmless
from fxcast.data.store import CandleStore
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.instrument import default_instrument
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, StoreUnavailable
from fxcast.evaluation.rolling_walk import AgainstWalk, against_walk, independent_forecasts

log = structlog.get_logger(__name__)

_OF = ("model_version", "symbol", "timeframe", "horizon_minutes")
SCORED = Meter(name="fxcast_outcomes_scored", kind="gauge", labels=_OF, meaning="Forecasts that are scored: the last ones")
INDEPENDENT = Meter(
    name="fxcast_outcomes_independent", kind="gauge", labels=_OF,
    meaning="How many of them do not overlap: what says how far a share may be off by chance",
)  # fmt: skip
COVERAGE = Meter(
    name="fxcast_outcomes_coverage_90_ratio", kind="gauge", labels=_OF, unit="0 to 1",
    meaning="Share of outcomes inside [q05, q95]; 0.9 is right",
)  # fmt: skip
CRPS = Meter(name="fxcast_outcomes_crps_pips", kind="gauge", labels=_OF, unit="pips", meaning="Mean CRPS")
CRPS_WALK = Meter(
    name="fxcast_outcomes_crps_random_walk_pips", kind="gauge", labels=_OF, unit="pips",
    meaning="Mean CRPS of the random walk on those windows that the candle store holds",
)  # fmt: skip
CRPS_SKILL = Meter(
    name="fxcast_outcomes_crps_skill_ratio", kind="gauge", labels=_OF, unit="1 is perfect",
    meaning="1 - CRPS / CRPS of the random walk, on the same windows; below 0 the walk was better",
)  # fmt: skip
PAIRS = Meter(name="fxcast_outcomes_crps_pairs", kind="gauge", labels=_OF, meaning="Forecasts that the skill is of")
MAE = Meter(
    name="fxcast_outcomes_mae_ratio", kind="gauge", labels=_OF, unit="1 is no better",
    meaning="Absolute error of the median over that of the last price",
)  # fmt: skip
WIDTH = Meter(
    name="fxcast_outcomes_width_factor", kind="gauge", labels=_OF, unit="1 changes nothing",
    meaning="What the online calibration multiplies the spread by",
)  # fmt: skip
AS_OF = Meter(
    name="fxcast_outcomes_newest_timestamp_seconds", kind="gauge", labels=_OF, unit="s since 1970",
    meaning="When the newest outcome became known",
)  # fmt: skip
OUTCOME_METERS = (SCORED, INDEPENDENT, COVERAGE, CRPS, CRPS_WALK, CRPS_SKILL, PAIRS, MAE, WIDTH, AS_OF)

_CLOSED = timedelta(days=5)  # weekends and holidays that a window may reach across


class OutcomeMeters:
    """Shows each model's rolling scores until it is closed; never fails what scores them."""

    def __init__(self) -> None:
        self.board = Board(OUTCOME_METERS, {})
        self._seen: set[ModelQuality] = set()

    @harmless
    def show(self, database: Database, store: CandleStore) -> None:
        """Show the newest scores; of those that are new, look at the random walk too."""
        for quality in newest_quality(database):
            if quality not in self._seen:
                self._show(quality, database, store)
                self._seen.add(quality)

    def _show(self, quality: ModelQuality, database: Database, store: CandleStore) -> None:
        horizon, scores = quality.horizon_minutes, quality.scores
        of = {
            "model_version": quality.model_version,
            "symbol": quality.symbol,
            "timeframe": quality.timeframe,
            "horizon_minutes": str(horizon),
        }
        kind = ForecastKind(
            model_version=quality.model_version, symbol=quality.symbol, timeframe=quality.timeframe, horizon_minutes=horizon
        )
        recent = recent_forecasts(database, kind, limit=scores.forecasts)
        made_at = [each.made_at for each in recent]
        walk: AgainstWalk | None = None
        timeframe = Timeframe(quality.timeframe)
        try:
            reach = CONTEXT_BARS * timeframe.duration * 2 + _CLOSED
            series = store.read(quality.symbol, timeframe, made_at[0] - reach, made_at[-1] + timeframe.duration)
            walk = against_walk(
                series,
                horizon,
                made_at=made_at,
                price=np.array([each.price for each in recent]),
                actual=np.array([each.actual_price for each in recent]),
                samples=[each.samples for each in recent],
                pip=float(default_instrument(quality.symbol).pip),
            )
        except (BadCandles, StoreUnavailable) as error:
            log.warning("no candles for a random walk", symbol=quality.symbol, timeframe=quality.timeframe, problem=str(error))
        values = {
            SCORED: float(scores.forecasts),
            INDEPENDENT: float(independent_forecasts(made_at, horizon)),
            COVERAGE: scores.coverage_90,
            CRPS: scores.crps_pips,
            CRPS_WALK: None if walk is None else walk.crps_walk_pips,
            CRPS_SKILL: None if walk is None else walk.skill,
            PAIRS: 0.0 if walk is None else float(walk.forecasts),
            MAE: scores.mae_ratio,
            WIDTH: quality.learned.factor,
            AS_OF: quality.as_of.timestamp(),
        }
        for meter, value in values.items():
            if value is not None:
                self.board.set(meter, value, **of)
