"""What the forecast service answers about a window, with pictures: asked once, however often and for whom it is drawn."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from fxcast.client import ForecastChoices, ForecastClient
from fxcast.data.store import CandleStore
from fxcast.data.windows import stored_window
from fxcast.domain.candle import CandleSeries
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import UnexpectedAnswer
from fxcast.serving.schemas import PredictionBody
from fxcast.serving.seen import SeenBody
from fxcast.trading.forecasting import forecast_seed

_FUTURES = 12
_REMEMBERED = 16
_OK = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What somebody wants to look at.

    Attributes:
        model: Its version; None for whichever is in use.
        until: Close of the window's last candle.
        pressed_at: When they pressed Look for it: an older answer will not do. None if any answer about these candles will.
    """

    symbol: str
    timeframe: Timeframe
    model: str | None
    until: datetime
    pressed_at: datetime | None = None

    @property
    def about(self) -> tuple[str, Timeframe, str | None]:
        """What was chosen."""
        return self.symbol, self.timeframe, self.model


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What an open page looks at, as its browser keeps it.

    Attributes:
        clicks: How often Look had been pressed when it was asked for.
    """

    asked: Asked
    clicks: int

    @classmethod
    def read(cls, written: Any) -> Kept | None:  # noqa: ANN401  # what a browser sends
        """Return what `written` gave, None if there is nothing yet."""
        if not isinstance(written, dict):
            return None
        try:
            asked = Asked(
                symbol=written["symbol"],
                timeframe=Timeframe(written["timeframe"]),
                model=written["model"],
                until=datetime.fromisoformat(written["until"]),
                pressed_at=None if written["pressed_at"] is None else datetime.fromisoformat(written["pressed_at"]),
            )
            return cls(asked=asked, clicks=written["clicks"])
        except (KeyError, TypeError, ValueError):  # made by hand, or by an older page: it is asked anew
            return None

    def written(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        asked = self.asked
        return {
            "symbol": asked.symbol,
            "timeframe": asked.timeframe.name,
            "model": asked.model,
            "until": asked.until.isoformat(),
            "pressed_at": None if asked.pressed_at is None else asked.pressed_at.isoformat(),
            "clicks": self.clicks,
        }

    def is_pressed_since(self, clicks: int) -> bool:
        """Whether Look was pressed since, whatever else has happened at the same time."""
        return clicks != self.clicks


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A window, and what the service says of it.

    Attributes:
        asked_at: When the service was asked.
        pictures: PNG in base64 by channel.
    """

    asked_at: datetime
    window: CandleSeries
    forecast: PredictionBody
    pictures: dict[str, str]
    seen: SeenBody


_Subject = tuple[str, Timeframe, str | None, datetime]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Answer:
    """One that is known, or on its way."""

    asked_at: datetime
    look: Future[Look]


class AskedForecasts:
    """Ask the service, and remember the last answers: all open pages share one about the same candles and model.

    The seed is that of an engine's forecast. With as many samples as an engine asks for (50, unless its settings say otherwise)
    the same model forecasts the same.
    """

    def __init__(self, client: ForecastClient, store: CandleStore, now: Callable[[], datetime]) -> None:
        self._client = client
        self._store = store
        self._now = now
        self._known: dict[_Subject, _Answer] = {}
        self._lock = threading.Lock()
        self._close_of = lru_cache(maxsize=64)(self._read_close)

    def newest_close(self, symbol: str, timeframe: Timeframe) -> datetime | None:
        """Return when the last stored candle closed, None if there is none; reads it once for each candle that is stored."""
        part = self._store.newest_parts().get((symbol, timeframe))
        return None if part is None else self._close_of(symbol, timeframe, part)

    def look(self, asked: Asked) -> Look:
        """Return what the model sees: what is known of these candles, unless Look was pressed since it was asked for.

        Raises:
            FxcastError: If the candles can't be read, or as `fxcast.client` lists; nothing is remembered then.
        """
        subject = (*asked.about, asked.until)
        with self._lock:
            known = self._known.get(subject)
            if known is not None and (asked.pressed_at is None or asked.pressed_at <= known.asked_at):
                mine = None
            else:
                mine = known = _Answer(asked_at=self._now(), look=Future())
                self._known.pop(subject, None)  # the newest stands last
                self._known[subject] = mine
                while len(self._known) > _REMEMBERED:
                    del self._known[next(iter(self._known))]
        if mine is None:
            return known.look.result()
        try:
            look = self._ask(asked, mine.asked_at)
        except BaseException as error:  # who waits for the same answer is told too
            with self._lock:
                if self._known.get(subject) is mine:
                    del self._known[subject]
            mine.look.set_exception(error)
            raise
        mine.look.set_result(look)
        return look

    def _read_close(self, symbol: str, timeframe: Timeframe, _part: str) -> datetime | None:
        span = self._store.span(symbol, timeframe)
        return None if span is None else span[1]

    def _ask(self, asked: Asked, asked_at: datetime) -> Look:
        window = stored_window(self._store, asked.symbol, asked.timeframe, asked.until)
        options = ForecastChoices(vision=True, futures=_FUTURES, seed=forecast_seed(asked.symbol, asked.until))
        if asked.model is not None:
            options["model_version"] = asked.model
        forecast = self._client.forecast(window, **options)
        if forecast.vision is None or forecast.seen is None:
            raise UnexpectedAnswer(_OK, "a forecast without pictures, as a service of an earlier release gives")
        return Look(asked_at=asked_at, window=window, forecast=forecast, pictures=forecast.vision, seen=forecast.seen)
