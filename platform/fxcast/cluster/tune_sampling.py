"""One fold of a trial on the level that forecasts again: the same model with other sampler steps, then a backtest."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import ray
from numpy.typing import NDArray

from fxcast.cluster.backtests import prepare_forecasts
from fxcast.cluster.batch_forecast import ForecastSource, Workers
from fxcast.cluster.forecast_cache import ForecastCache
from fxcast.cluster.tune_trading import FoldForecasts, TunedMarket, trade_fold_task
from fxcast.domain.forecaster import Forecaster
from fxcast.errors import BadSetting
from fxcast.tuning.trial import FoldScore, Values

if TYPE_CHECKING:
    from fxcast.models.pipeline import LDM4TSPipeline  # torch stays out of processes that need none

STEPS = "sampler.steps"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastRequest:
    """What is forecast of a fold.

    Attributes:
        ends: By symbol, positions of the windows' last candles, ascending, (n,).
        num_samples: As many as any trial asks for.
    """

    ends: Mapping[str, NDArray[np.int64]]
    num_samples: int
    cache: str
    workers: Workers


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingEvaluator:
    """Implements `tuning.trial.FoldEvaluator`: forecasts that were made with the same steps before are read.

    The trial's actor reserves no CPU: forecasters and the backtest are actors and tasks of their own.

    Attributes:
        sources: The own model of each fold.
        others: Of each fold, of which only those of opponents that vote count.
        requests: Of each fold.
    """

    market: TunedMarket
    sources: tuple[ForecastSource, ...]
    others: tuple[FoldForecasts, ...]
    requests: tuple[ForecastRequest, ...]

    def evaluate(self, values: Values, fold: int, *, trial: int) -> FoldScore:
        """Forecast and trade a fold on the connected cluster."""
        del trial
        source = with_steps(self.sources[fold - 1], values.get(STEPS))
        return forecast_and_trade(self.market, source, self.requests[fold - 1], self.others[fold - 1], values, fold)


def forecast_and_trade(
    market: TunedMarket, source: ForecastSource, request: ForecastRequest, others: FoldForecasts, values: Values, fold: int
) -> FoldScore:
    """Forecast a fold's windows with a model, and trade the fold in a task of its own; the seconds are those of both."""
    began = time.monotonic()
    series = {symbol: ray.get(market.series[symbol]) for symbol in market.followed}
    prepared, _ = prepare_forecasts(
        source,
        series,
        request.ends,
        num_samples=request.num_samples,
        cache=ForecastCache(request.cache),
        workers=request.workers,
    )
    forecasts = FoldForecasts(own=ray.put(prepared), others=others.others)
    score = ray.get(trade_fold_task.remote(market, forecasts, dict(values), fold))
    return replace(score, seconds=time.monotonic() - began)


def steps_of(source: ForecastSource) -> int:
    """Return the sampler steps that a model was calibrated with.

    Raises:
        BadSetting: If it is no LDM4TS.
    """
    return _ldm4ts(source.load()).config.sampler_steps


def with_steps(source: ForecastSource, steps: object) -> ForecastSource:
    """Return a source that samples in another number of steps; the same one for None.

    Its calibration stays that of the steps it was made with: how far that is off, the coverage error of a trial tells.
    """
    if steps is None:
        return source
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise BadSetting(f"{STEPS}: found {steps!r}; allowed: a whole number, 1 or more")
    if steps == steps_of(source):
        return source
    digest = hashlib.sha256(f"{source.model_hash} {steps} steps".encode()).hexdigest()
    return replace(source, model_hash=digest, load=partial(_load_with_steps, source.load, steps))


def _load_with_steps(load: Callable[[], Forecaster], steps: int) -> Forecaster:
    pipeline = _ldm4ts(load())
    return replace(pipeline, config=pipeline.config.model_copy(update={"sampler_steps": steps}))


def _ldm4ts(forecaster: Forecaster) -> LDM4TSPipeline:
    from fxcast.models.pipeline import LDM4TSPipeline

    if not isinstance(forecaster, LDM4TSPipeline):
        raise BadSetting(f"{STEPS}: found the model {forecaster.model_version}; allowed: a model of LDM4TS")
    return forecaster
