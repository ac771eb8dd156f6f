"""Regimes are fitted in Ray tasks, while the engine goes on."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

import ray
import structlog
from ray import ObjectRef
from ray.exceptions import RayError

from fxcast.data.store import CandleStore
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import FxcastError
from fxcast.signals.regime import RegimeModel
from fxcast.trading.ports import FittedRegimes
from fxcast.trading.regime_fitting import regimes_known_at

log = structlog.get_logger(__name__)


class TaskRegimeFitter:
    """Implements `trading.ports.RegimeFitter` on the cluster.

    Args:
        store: Root of the candle store that the candles are read from.
        waits: Whether `ready` waits for everything that was asked for: in a replay, so that it is the same each time.
    """

    def __init__(self, store: str, timeframe: str, *, waits: bool) -> None:
        self._store = store
        self._timeframe = timeframe
        self._waits = waits
        self._asked: dict[ObjectRef[Any], tuple[str, datetime]] = {}

    def ask(self, symbol: str, at: datetime) -> None:
        """Begin to fit a symbol's regimes on the last candles known at a moment."""
        self._asked[_fit_task.remote(self._store, symbol, self._timeframe, at)] = (symbol, at)

    def ready(self) -> tuple[FittedRegimes, ...]:
        """Return what has been fitted; of a task that failed, that there is no model."""
        if not self._asked:
            return ()
        done, _ = ray.wait(list(self._asked), num_returns=len(self._asked), timeout=None if self._waits else 0)
        return tuple(self._taken(answer) for answer in list(self._asked) if answer in set(done))

    def _taken(self, answer: ObjectRef[Any]) -> FittedRegimes:
        symbol, at = self._asked.pop(answer)
        try:
            model = cast("RegimeModel | None", ray.get(answer))
        except RayError as error:
            log.warning("regimes not fitted", symbol=symbol, problem=str(error).splitlines()[0])
            model = None
        return FittedRegimes(symbol=symbol, model=model, at=at)


def fit_stored_regimes(store: str, symbol: str, timeframe: str, at: datetime) -> RegimeModel | None:
    """Fit on the last candles of a store that are known at a moment; None if they are too few, or can't be read."""
    try:
        return regimes_known_at(CandleStore(store).read(symbol, Timeframe(timeframe), stop=at), at)
    except FxcastError as error:
        log.warning("regimes not fitted", symbol=symbol, problem=str(error))
        return None


_fit_task: Any = ray.remote(num_cpus=0.1, max_retries=3)(fit_stored_regimes)
