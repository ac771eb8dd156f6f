"""Hold the times of a series against the FX week: what a wrong time zone can't hide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np

from fxcast.data.importing.clocks import NEW_YORK_CLOSE, SourceClock
from fxcast.domain.calendar import NEW_YORK, new_york_offset
from fxcast.domain.candle import TimeArray, to_datetime

_BERLIN = ZoneInfo("Europe/Berlin")
_WEEK_S, _HOUR_S, _MINUTE_S = 7 * 86_400, 3_600, 60
_SUNDAY_17 = 3 * 86_400 + 17 * 3_600  # 1970 began on a Thursday
_OPEN_S = 5 * 86_400  # from Sunday 17:00 to Friday 17:00
_NEAR_S = 6 * _HOUR_S  # candles this near to the open or the close tell a shifted clock; others are strays of another kind
_STRAYS = 0.15  # of the weeks; a clock that is wrong for half the year is wrong in far more
_TOLERANCE_S = 30 * _MINUTE_S
_CANDIDATES = (
    NEW_YORK_CLOSE, "UTC", "Europe/Berlin", "Europe/Helsinki", "Europe/London", "America/New_York", "-05:00", "+01:00", "+02:00",
    "+03:00", "Asia/Tokyo", "Australia/Sydney",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class WeekCheck:
    """How the weeks of a series lie in the FX week (Sunday 17:00 to Friday 17:00 New York).

    Attributes:
        weeks: How many weeks have candles on both sides of a weekend or begin with one.
        early: Sundays of the weeks with candles that open half an hour or more before the market does, up to six hours.
        late: Sundays of the weeks with candles that open after the market has closed, up to six hours.
        begins_min: Median minutes from the open of the market to the week's first candle; None without a whole weekend.
        ends_min: Median minutes from the market's close to the close of the week's last candle.
        daylight_min: How much later (below zero: earlier) weeks end while only one of the US and Europe has daylight saving time
            than at other times; None without weeks of both kinds. An hour means that the clock follows the other's.
    """

    weeks: int
    early: tuple[datetime, ...]
    late: tuple[datetime, ...]
    begins_min: float | None
    ends_min: float | None
    daylight_min: float | None = None

    @property
    def is_possible(self) -> bool:
        """Whether the times can be right: some vendors have a stray candle after the close, a wrong clock has many."""
        return len(set(self.early) | set(self.late)) <= max(1, self.weeks * _STRAYS) and not self._follows_other_daylight

    @property
    def _follows_other_daylight(self) -> bool:
        return self.daylight_min is not None and 45 <= abs(self.daylight_min) <= 75

    def describe(self) -> str:
        """Say what was found, in one sentence."""
        if self.begins_min is None or self.ends_min is None:
            return "no weekend in the series: its time zone can't be checked"
        begins, ends = _minutes(self.begins_min, "the market opens"), _minutes(self.ends_min, "it closes")
        found = f"weeks begin {begins} and end {ends} (median of {self.weeks})"
        if self.is_possible:
            strays = len(set(self.early) | set(self.late))
            return found if not strays else f"{found}; {strays} weeks have candles just outside it"
        if self._follows_other_daylight and self.daylight_min is not None:
            shift = f"{abs(self.daylight_min):.0f} min {'later' if self.daylight_min > 0 else 'earlier'}"
            return (
                "the time zone can't be right: while only one of the US and Europe has daylight saving time, weeks end "
                f"{shift} than at other times, so the clock follows the other one's; {found}"
            )
        wrong = sorted(set(self.early) | set(self.late))
        return (
            f"the time zone can't be right: in {len(wrong)} of {self.weeks} weeks candles open before Sunday 17:00 New York "
            f"or after Friday 17:00, the first that of {wrong[0]:%Y-%m-%d}, the last that of {wrong[-1]:%Y-%m-%d}; {found}"
        )


def check_weeks(open_times: TimeArray, step: np.timedelta64) -> WeekCheck:
    """Compare open times (UTC, increasing, (n,)) with the FX week."""
    if len(open_times) == 0:
        return WeekCheck(weeks=0, early=(), late=(), begins_min=None, ends_min=None)
    local = (open_times + new_york_offset(open_times)).astype("datetime64[s]").astype(np.int64)
    into_week = (local - _SUNDAY_17) % _WEEK_S  # since Sunday 17:00
    week = (local - _SUNDAY_17) // _WEEK_S
    early = into_week >= _WEEK_S - _NEAR_S  # belongs to the week that is about to begin
    late = (into_week >= _OPEN_S) & (into_week < _OPEN_S + _NEAR_S)
    to_open = np.where(early, into_week - _WEEK_S, into_week)
    week = np.where(early, week + 1, week)
    distinct, first = np.unique(week, return_index=True)
    last = np.append(first[1:], len(week)) - 1
    begins, ends = to_open[first], to_open[last] + int(step.astype("timedelta64[s]").astype(np.int64)) - _OPEN_S
    # The first week's beginning and the last one's end are where the file begins and ends, unless they lie by a weekend.
    begun = (np.arange(len(distinct)) > 0) | (begins < _HOUR_S * 6)
    ended = (np.arange(len(distinct)) < len(distinct) - 1) | (ends > -_HOUR_S * 6)
    apart = np.array([_daylight_differs(int(number)) for number in distinct])
    both = (ended & apart).any() and (ended & ~apart).sum() > 1
    return WeekCheck(
        weeks=int((begun | ended).sum()),
        early=_sundays(np.unique(week[early & (to_open <= -_TOLERANCE_S)])),
        late=_sundays(np.unique(week[late & (into_week >= _OPEN_S + _TOLERANCE_S - int(step.astype(np.int64)))])),
        begins_min=float(np.median(begins[begun])) / _MINUTE_S if begun.any() else None,
        ends_min=float(np.median(ends[ended])) / _MINUTE_S if ended.any() else None,
        daylight_min=float(np.median(ends[ended & apart]) - np.median(ends[ended & ~apart])) / _MINUTE_S if both else None,
    )


def fitting_clocks(local: TimeArray, step: np.timedelta64, candidates: Sequence[str] = _CANDIDATES) -> list[str]:
    """Return the clocks under which times as written, (n,), fit the FX week: weeks begin within the hour, nothing lies outside."""
    fitting: list[str] = []
    for name in candidates:
        times, _ = SourceClock(name).to_utc(local)
        check = check_weeks(np.unique(times[~np.isnat(times)]), step)
        if check.weeks > 1 and check.begins_min is not None and check.is_possible and abs(check.begins_min) <= 60:
            fitting.append(name)
    return fitting


def _daylight_differs(week: int) -> bool:
    friday = datetime.fromtimestamp(week * _WEEK_S + _SUNDAY_17 + _OPEN_S - 17 * _HOUR_S + 12 * _HOUR_S, tz=UTC)
    return friday.astimezone(NEW_YORK).dst() != friday.astimezone(_BERLIN).dst()


def _sundays(weeks: np.ndarray) -> tuple[datetime, ...]:
    return tuple(to_datetime(np.datetime64(int(week) * _WEEK_S + _SUNDAY_17 - 17 * _HOUR_S, "s")) for week in weeks)


def _minutes(minutes: float, event: str) -> str:
    if abs(minutes) < 1:
        return f"as {event}"
    return f"{abs(minutes):.0f} min {'after' if minutes > 0 else 'before'} {event}"
