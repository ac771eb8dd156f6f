"""Load models, each once for all who wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np

from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.forecaster import Forecaster, ForecastRequest, predict_together
from fxcast.errors import BadModelFolder
from fxcast.serving.directory import ModelKey

_PAUSE_S = 1.0
_UNTAKEN_S = 60.0


class ModelLoads:
    """Models on their way into memory.

    A caller that goes away stops no load. One that failed is tried again by whoever asks after a pause, and until then its error is
    everybody's: many requests for a broken model must not keep those for others from being answered.

    Args:
        load: Load the model of a key; takes long.
        pause_s: After a load that failed.
        untaken_s: How long a model that nobody takes is kept.
    """

    def __init__(
        self, load: Callable[[str], Awaitable[Forecaster]], *, pause_s: float = _PAUSE_S, untaken_s: float = _UNTAKEN_S
    ) -> None:
        self._load = load
        self._pause_s = pause_s
        self._untaken_s = untaken_s
        self._tasks: dict[str, asyncio.Task[Forecaster]] = {}

    async def take(self, key: str) -> Forecaster:
        """Load a model, unless that is done and nobody took it, and keep it no longer; raises what `load` raises."""
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(self._loaded(key))
        try:
            forecaster = await asyncio.shield(task)
        except BadModelFolder as error:
            # Anew, for it is everybody's: with each raise of one and the same error its traceback grows.
            raise BadModelFolder(error.folder, error.problem) from None
        self._tasks.pop(key, None)
        return forecaster

    async def _loaded(self, key: str) -> Forecaster:
        kept_s = self._pause_s
        try:
            forecaster = await self._load(key)
            kept_s = self._untaken_s
            return forecaster
        finally:
            asyncio.get_running_loop().call_later(kept_s, self._tasks.pop, key, None)


def load_warm(key: str) -> Forecaster:
    """Load the model of a `ModelKey`, and let it forecast once, so that its first caller does not wait for what torch does once.

    Raises:
        BadModelFolder: If the folder is incomplete, corrupt or not of the timeframe, can't be read, or holds a model whose forecast
            is none: weights that are not numbers.
    """
    from fxcast.models.load import load_forecaster, move_to_gpu  # torch; what deploys the service needs none

    wanted = ModelKey.parse(key)
    try:
        forecaster = load_forecaster(Path(wanted.folder), timeframe=wanted.timeframe)
    except OSError as error:  # a file that went away meanwhile, a disk that fails
        raise BadModelFolder(wanted.folder, f"can't be read: {error}") from error
    move_to_gpu(forecaster)
    minutes = forecaster.timeframe.minutes
    values = np.ones((CONTEXT_BARS, 5))
    times = np.datetime64("2017-01-03T00:00:00", "s") + np.arange(CONTEXT_BARS) * np.timedelta64(minutes * 60, "s")
    window = CandleSeries(symbol="EURUSD", timeframe=forecaster.timeframe, open_times=times, values=values)
    try:
        predict_together(forecaster, [ForecastRequest(window=window)])
    except ValueError as error:
        raise BadModelFolder(wanted.folder, f"its model can't forecast: {error}") from error
    return forecaster
