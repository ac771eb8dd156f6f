"""The clocks that files are stamped by, and their way to UTC."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from fxcast.data.importing.result import Reason
from fxcast.domain.candle import TimeArray
from fxcast.errors import BadSetting

NEW_YORK_CLOSE = "new-york-close"
_SHIFT_S = 7 * 3600  # so that the day ends at midnight when it is 17:00 in New York
_FIXED = re.compile(r"(?:UTC|GMT)?(?P<sign>[+-])(?P<hours>\d{1,2})(?::?(?P<minutes>\d{2}))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SourceClock:
    """A clock by its name.

    Args:
        name: `UTC`; a fixed offset such as `+02:00`, `-5` or `UTC+3`; an IANA zone such as `Europe/Berlin`; or `new-york-close`,
            the server time of many MetaTrader brokers: New York + 7 h, which follows the daylight saving of the US, not Europe's.
            A clock that was changed: `Europe/Berlin until 2014-11-09, Europe/Helsinki`, the day as written in the file.

    Raises:
        BadSetting: If it is none of these.
    """

    name: str

    def __post_init__(self) -> None:
        if "," in self.name:
            self._periods()
            return
        if self.name == NEW_YORK_CLOSE or self._fixed_s() is not None:
            return
        try:
            ZoneInfo(self.name)
        except (KeyError, ValueError, OSError):  # zoneinfo raises OSError for a folder of zones such as `America`
            allowed = f"UTC, an offset as in +02:00, an IANA time zone as in Europe/Berlin, or {NEW_YORK_CLOSE}"
            raise BadSetting(f"zone: found {self.name!r}; allowed: {allowed}") from None

    def to_utc(self, local: TimeArray) -> tuple[TimeArray, list[tuple[int, Reason]]]:
        """Convert times as written, (n,) datetime64[s], to UTC.

        Returns:
            The times, NaT where there is none, and why: the positions of times that this clock never showed, or showed twice.
        """
        if "," in self.name:
            return self._changing_to_utc(local)
        fixed_s = self._fixed_s()
        if fixed_s is not None:
            return local - np.timedelta64(fixed_s, "s"), []
        zone, shift_s = (self.name, 0) if self.name != NEW_YORK_CLOSE else ("America/New_York", _SHIFT_S)
        naive = pd.Series(local - np.timedelta64(shift_s, "s"))
        unambiguous = naive.dt.tz_localize(zone, ambiguous="NaT", nonexistent="shift_forward")
        exact = unambiguous.where(unambiguous.dt.tz_localize(None) == naive)
        times: TimeArray = exact.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy().astype("datetime64[s]")
        problems: list[tuple[int, Reason]] = []
        for position in np.flatnonzero(np.isnat(times) & ~np.isnat(local)):
            never = not pd.isna(unambiguous.iloc[position])
            problems.append((int(position), Reason.NO_SUCH_LOCAL_TIME if never else Reason.AMBIGUOUS_LOCAL_TIME))
        return times, problems

    def _periods(self) -> list[tuple[SourceClock, np.datetime64 | None]]:
        """Return the clocks of a changed one, each with the moment, as written, at which it ends."""
        *earlier, last = (part.strip() for part in self.name.split(","))
        periods: list[tuple[SourceClock, np.datetime64 | None]] = []
        for part in earlier:
            name, _, day = part.partition(" until ")
            try:
                ends = np.datetime64(date.fromisoformat(day.strip()), "s")
            except ValueError:
                allowed = "CLOCK until YYYY-MM-DD, CLOCK"
                raise BadSetting(f"zone: found {self.name!r}; allowed: {allowed}") from None
            periods.append((SourceClock(name.strip()), ends))
        days = [ends for _, ends in periods if ends is not None]
        if days != sorted(set(days)):
            raise BadSetting(f"zone: found {self.name!r}; allowed: days that follow each other")
        return [*periods, (SourceClock(last), None)]

    def _changing_to_utc(self, local: TimeArray) -> tuple[TimeArray, list[tuple[int, Reason]]]:
        times = np.full(len(local), np.datetime64("NaT"), dtype="datetime64[s]")
        problems: list[tuple[int, Reason]] = []
        left = ~np.isnat(local)
        for clock, ends in self._periods():
            here = np.flatnonzero(left if ends is None else left & (local < ends))
            times[here], found = clock.to_utc(local[here])
            problems += [(int(here[position]), reason) for position, reason in found]
            left[here] = False
        return times, problems

    def _fixed_s(self) -> int | None:
        if self.name.upper() in {"UTC", "GMT", "Z"}:
            return 0
        match = _FIXED.fullmatch(self.name)
        if match is None or int(match["hours"]) > 14 or int(match["minutes"] or 0) > 59:
            return None
        seconds = int(match["hours"]) * 3600 + int(match["minutes"] or 0) * 60
        return -seconds if match["sign"] == "-" else seconds
