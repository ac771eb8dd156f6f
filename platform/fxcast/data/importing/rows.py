"""Turn lines of text into candles: columns at once, a closer look only at rows that are wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fxcast.data.importing.arrow import Fields, TextColumn, compute
from fxcast.data.importing.detect import split_fields
from fxcast.data.importing.layout import PRICES, Layout
from fxcast.data.importing.result import CROSSED_KEPT, Reason, RefusedRow, Repair, RepairedRow
from fxcast.data.importing.stamps import StampReader
from fxcast.domain.candle import COLUMNS, MAX_PRICE, MIN_PRICE, FloatArray, TimeArray, candle_problem, sound_rows
from fxcast.domain.currencies import points_per_unit
from fxcast.domain.market import ASK, BID, DETAILS, no_details
from fxcast.domain.timeframe import Timeframe

_SLIPPED_POINTS = 2.5  # a high or low that misses open or close by more is no rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows that are sound by themselves, in the order of the file: line numbers, times, (n, 5) values, (n, 11) details, texts."""

    lines: NDArray[np.int64]
    times: TimeArray
    values: FloatArray
    details: FloatArray
    texts: list[str]

    def at(self, positions: NDArray[np.int64]) -> Rows:
        """Return the rows at some positions."""
        return Rows(
            lines=self.lines[positions],
            times=self.times[positions],
            values=self.values[positions],
            details=self.details[positions],
            texts=[self.texts[position] for position in positions],
        )


@dataclass(slots=True, kw_only=True)
class RowReader:
    """Reads the rows of one file, and collects what it refuses and repairs.

    Attributes:
        price_scale: What prices are divided by: 1, or the points of a unit where the file holds whole points.
        repairs: What may be put right.
    """

    layout: Layout
    stamps: StampReader
    symbol: str
    timeframe: Timeframe
    source: str
    price_scale: int = 1
    repairs: frozenset[Repair] = frozenset()
    refused: list[RefusedRow] = field(default_factory=list[RefusedRow])
    repaired: list[RepairedRow] = field(default_factory=list[RepairedRow])

    def read(self, lines: Sequence[str], first_line: int) -> Rows:
        """Read a run of lines, the first of which has number `first_line`; blank ones are no rows."""
        numbers, texts, fields = self._split(lines, first_line)
        column = {role: compute.list_element(fields, position) for role, position in self.layout.columns.items()}
        times, time_reasons = self.stamps.read(column["time"], column.get("clock"))
        known = np.flatnonzero(~np.isnat(times))
        off_grid = known[self.timeframe.opening(times[known]) != times[known]]
        time_reasons = {int(position): Reason.OFF_GRID for position in off_grid} | time_reasons
        sides = {name: self._numbers(column, names) for name, names in self._sides().items()}
        volumes = {
            name: numbers_of(column[name], self.layout.decimal_comma)
            for name in ("volume", "tick_volume", "real_volume")
            if name in column
        }
        spreads = {
            name: numbers_of(column[name], self.layout.decimal_comma) for name in ("spread", "spread_points") if name in column
        }
        volume = np.zeros(len(texts))
        for name in ("volume", "real_volume", "tick_volume"):  # the last that is known
            if name in volumes:
                unknown = self._blank(column, name) if name == "volume" else np.isnan(volumes[name])
                volume = np.where(unknown, volume, volumes[name])
        checked = {name: np.column_stack([prices, volume]) for name, prices in sides.items()}  # each (rows, 5)
        if Repair.RANGE in self.repairs:
            for values in checked.values():
                self._widen(values, numbers)
        sound = np.ones(len(texts), dtype=bool)
        for name, values in checked.items():
            sound &= sound_rows(values) | self._unsaid(name, values)
        crossed = np.zeros(len(texts), dtype=bool)
        if "ask" in sides:
            crossed = np.any(sides["ask"] < sides["bid"], axis=1)
            if Repair.CROSSED not in self.repairs:
                sound &= ~crossed
        amounts = volumes | spreads
        for name, other in amounts.items():
            sound &= (np.isfinite(other) & (other >= 0)) | self._blank(column, name)
        sound[list(time_reasons)] = False
        for position in np.flatnonzero(~sound):
            at = int(position)
            row = {role: column[role][at].as_py() for role in column}
            if at in time_reasons:
                written = " ".join(row[role] for role in ("time", "clock") if role in row)
                reason, detail = time_reasons[at], repr(written)
            else:
                reason, detail = self._why_unsound(row, {name: values[at] for name, values in checked.items()}, amounts, at)
            self._refuse(int(numbers[at]), reason, detail, texts[at])
        details = self._details(column, checked, volumes, len(texts))
        prices = checked[""] if "" in checked else (checked["bid"] + checked["ask"]) / 2
        for at in np.flatnonzero(sound & crossed):
            details[at, : DETAILS.index("tick_volume")] = np.nan
            self.repaired.append(RepairedRow(line=int(numbers[at]), repair=Repair.CROSSED, detail=CROSSED_KEPT, source=self.source))
        rows = Rows(lines=numbers, times=times, values=prices, details=details, texts=texts)
        return rows if sound.all() else rows.at(np.flatnonzero(sound))

    def _split(self, lines: Sequence[str], first_line: int) -> tuple[NDArray[np.int64], list[str], Fields]:
        """Return number, text and fields of the rows that have as many fields as they should."""
        numbers = np.arange(first_line, first_line + len(lines))
        texts = list(lines)
        if any(not text or text.isspace() for text in texts):
            filled = [at for at, text in enumerate(texts) if text and not text.isspace()]
            numbers, texts = numbers[filled], [texts[at] for at in filled]
        if any('"' in text for text in texts):
            split = [split_fields(text, self.layout.delimiter) or [] for text in texts]
            fields = pa.array(split, type=pa.list_(pa.string()))
        else:
            fields = compute.split_pattern(pa.array(texts, type=pa.string()), pattern=self.layout.delimiter)
        counts = compute.list_value_length(fields).to_numpy()
        wrong = np.flatnonzero(counts != self.layout.field_count)
        for at in wrong:
            detail = f"{counts[at]} fields, not {self.layout.field_count}"
            self._refuse(int(numbers[at]), Reason.FIELD_COUNT, detail, texts[at])
        if len(wrong):
            right = np.flatnonzero(counts == self.layout.field_count)
            numbers, texts, fields = numbers[right], [texts[at] for at in right], fields.take(pa.array(right))
        return numbers, texts, fields

    def _sides(self) -> Mapping[str, tuple[str, ...]]:
        both = {"bid": BID, "ask": ASK} if self.layout.quotes_both_sides else {}
        return ({"": PRICES} if "open" in self.layout.columns else {}) | both

    def _unsaid(self, side: str, values: FloatArray) -> NDArray[np.bool_]:
        """Tell which rows leave bid or ask open although they hold a price, (rows,)."""
        optional = side != "" and "open" in self.layout.columns
        return (np.isnan(values[:, :4]).sum(axis=1) == len(PRICES)) & optional

    @staticmethod
    def _blank(column: Mapping[str, TextColumn], name: str) -> NDArray[np.bool_]:
        blank = compute.equal(compute.utf8_trim_whitespace(column[name]), "").to_numpy(zero_copy_only=False)
        # A file that has a volume has it in each row; but the column may be there and be empty.
        return blank if name != "volume" or blank.all() else np.zeros(len(blank), dtype=bool)

    def _numbers(self, column: Mapping[str, TextColumn], names: Sequence[str]) -> FloatArray:
        prices = np.column_stack([numbers_of(column[name], self.layout.decimal_comma) for name in names])
        if self.price_scale == 1:
            return prices
        whole = np.round(prices)
        with np.errstate(invalid="ignore"):  # infinite ones, which are refused later
            return np.where(np.abs(prices - whole) < 1e-4, whole, prices) / self.price_scale

    def _details(
        self, column: Mapping[str, TextColumn], checked: Mapping[str, FloatArray], volumes: Mapping[str, FloatArray], count: int
    ) -> FloatArray:
        details = no_details(count).copy()
        for name, names in (("bid", BID), ("ask", ASK)):
            side = checked.get(name)
            if side is not None:
                details[:, [DETAILS.index(each) for each in names]] = side[:, :4]
        spread = DETAILS.index("spread")
        if "spread" not in column and "ask" in checked:
            details[:, spread] = checked["ask"][:, 3] - checked["bid"][:, 3]
        elif "spread_points" in column:
            points = numbers_of(column["spread_points"], self.layout.decimal_comma)
            details[:, spread] = np.where(points > 0, points / points_per_unit(self.symbol), np.nan)  # 0: not recorded
        elif "spread" in column:
            details[:, spread] = numbers_of(column["spread"], self.layout.decimal_comma) / self.price_scale
        for name in ("tick_volume", "real_volume"):
            if name in volumes:
                details[:, DETAILS.index(name)] = volumes[name]
        return details

    def _widen(self, values: FloatArray, numbers: NDArray[np.int64]) -> None:
        """Raise a high or lower a low that misses open or close by rounding, in place."""
        tolerance = _SLIPPED_POINTS / points_per_unit(self.symbol)
        open_, high, low, close = values[:, :4].T
        with np.errstate(invalid="ignore"):
            above, below = np.maximum(open_, close) - high, low - np.minimum(open_, close)
            slipped = (above > 0) & (above <= tolerance) | (below > 0) & (below <= tolerance)
        for at in np.flatnonzero(slipped):
            was = f"high {high[at]:g}, low {low[at]:g}"
            values[at, 1], values[at, 2] = max(high[at], open_[at], close[at]), min(low[at], open_[at], close[at])
            now = f"high {values[at, 1]:g}, low {values[at, 2]:g}"
            self.repaired.append(
                RepairedRow(line=int(numbers[at]), repair=Repair.RANGE, detail=f"{was} → {now}", source=self.source)
            )

    def _refuse(self, line: int, reason: Reason, detail: str, text: str) -> None:
        self.refused.append(RefusedRow(line=line, reason=reason, detail=detail, text=text, source=self.source))

    def _why_unsound(
        self, row: Mapping[str, str], checked: Mapping[str, FloatArray], amounts: Mapping[str, FloatArray], at: int
    ) -> tuple[Reason, str]:
        for side, names in self._sides().items():
            if side and not any(row[name].strip() for name in names):
                if "open" in row:
                    continue
                return Reason.OTHER_SIDE_MISSING, f"no {side}"
            for name, label, value in zip(names, PRICES, checked[side], strict=False):
                if math.isnan(value) and row[name].strip().lower().lstrip("+-") != "nan":
                    return Reason.UNREADABLE_NUMBER, f"{f'{side} {label}'.strip()} {row[name]!r}"
        for name, values in amounts.items():
            if math.isnan(values[at]) and row[name].strip().lower().lstrip("+-") not in (
                {"nan"} if name == "volume" else {"nan", ""}
            ):
                return Reason.UNREADABLE_NUMBER, f"{name} {row[name]!r}"
        for side, values in checked.items():
            if bool(self._unsaid(side, values[None])[0]):
                continue
            problem = candle_problem(*(float(value) for value in values))
            if problem is not None:
                reason, detail = _reason(values, problem)
                return reason, f"{side} {detail}".strip()
        for name, values in amounts.items():
            if not np.isfinite(values[at]) and row[name].strip():
                return Reason.NOT_FINITE, f"{name} {values[at]:g}"
            if values[at] < 0:
                return Reason.CROSSED_QUOTE if name.startswith("spread") else Reason.NEGATIVE_VOLUME, f"{name} {values[at]:g}"
        bid, ask = checked["bid"], checked["ask"]
        name = next(name for name, one, other in zip(PRICES, bid, ask, strict=False) if other < one)
        return Reason.CROSSED_QUOTE, f"{name}: ask {ask[PRICES.index(name)]:g}, bid {bid[PRICES.index(name)]:g}"


def _reason(values: FloatArray, problem: tuple[str, str, str]) -> tuple[Reason, str]:
    name, found, _ = problem
    value, detail = float(values[COLUMNS.index(name)]), f"{name} {found}"
    if not math.isfinite(value):
        return Reason.NOT_FINITE, detail
    if name == "volume":
        return Reason.NEGATIVE_VOLUME, detail
    if value <= 0:
        return Reason.PRICE_NOT_POSITIVE, detail
    if not MIN_PRICE <= value <= MAX_PRICE:
        return Reason.IMPLAUSIBLE_PRICE, detail
    return (Reason.HIGH_BELOW_LOW if values[1] < values[2] else Reason.OUTSIDE_RANGE), detail


def numbers_of(texts: TextColumn, decimal_comma: bool = False) -> FloatArray:
    """Return a column of numbers, (n,), NaN where there is none to read."""
    if decimal_comma:
        texts = compute.replace_substring(texts, pattern=",", replacement=".", max_replacements=1)
    texts = compute.utf8_trim_whitespace(texts)
    try:
        return compute.cast(compute.if_else(compute.equal(texts, ""), None, texts), pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:  # one by one, then
        return np.array([_number(text) for text in texts.to_pylist()], dtype=np.float64)


def _number(text: str) -> float:
    if "_" in text:  # Python's digit grouping, which no data vendor means
        return math.nan
    try:
        return float(text)
    except ValueError:
        return math.nan
