"""A decision in plain words, rows and one figure, and the link that leads to it: what page Decisions shows."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from urllib.parse import parse_qs, urlencode

import plotly.graph_objects as go

from fxcast.adapters.storage.decided import Consequences, Counts, Wanted
from fxcast.domain.order import FillReason, OrderPurpose, OrderStatus
from fxcast.domain.signal import DIMENSIONS, Direction, QualityScore, Verdict
from fxcast.trading.ports import DecidedSignal, OrderRecord, PositionRecord
from fxcast.web.charts import BLUE, GREY
from fxcast.web.times import clock_time

_LONGEST = 200  # characters that a reader may ask for

# How those steps of `trading.sizing` begin that make a size smaller than its base.
_CUTS = re.compile(r"uncertainty |margin |at most [\d,.]+ in one order")

_ASKS = {
    "consistency": "how many of the sources agree",
    "confirmation": "whether forecasts' other horizons and longer timeframes say the same",
    "strength": "how strongly the sources say so",
    "timing": "how liquid the hour is, and how narrow the spread",
    "risk_reward": "how far the target is beside the stop; 0.5 if as far",
    "regime_alignment": "how well such sources do in a market like this one",
}
_STATUS_MEANS = {
    OrderStatus.INTENT: ("plain", "written down, not sent yet"),
    OrderStatus.SENT: ("warn", "sent, no answer yet: the broker will be asked"),
    OrderStatus.ACCEPTED: ("warn", "taken by the broker, not filled yet"),
    OrderStatus.FILLED: ("good", "filled"),
    OrderStatus.REJECTED: ("bad", "refused by the broker"),
    OrderStatus.CANCELLED: ("bad", "cancelled"),
}
_FILLED_BY = {
    FillReason.MARKET: "our order",
    FillReason.STOP: "the stop",
    FillReason.TARGET: "the target",
    FillReason.MARGIN_CLOSEOUT: "the broker, for want of margin",
    FillReason.MANUAL: "somebody at the broker",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Linked:
    """A decision that an address leads to."""

    account: str
    signal_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """A dimension of quality, `value` in [0, 1], and its weight in the mean; None of a signal kept before weights were."""

    name: str
    asks: str
    value: float
    weight: float | None

    @property
    def could_give(self) -> float:
        """To the weighted mean; without a weight, to itself."""
        return 1.0 if self.weight is None else self.weight

    @property
    def gave(self) -> float:
        return self.could_give * self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a decision.

    Attributes:
        word: The shortest way to say it.
        kind: Of `page.mark`.
        said: In a sentence.
    """

    word: str
    kind: str
    said: str


def plain_text(value: object, longest: int = _LONGEST) -> str:
    """Return what was sent as a text that a database can be asked for: whoever makes a request by hand may send anything."""
    if not isinstance(value, str):
        return ""
    return value[:longest].encode(errors="ignore").decode().replace("\0", "")


def link_to(account: str, signal_id: str) -> str:
    """Return the query of the address of a decision."""
    return "?" + urlencode({"account": account, "signal": signal_id})


def linked(search: object) -> Linked | None:
    """Return the decision that the query of an address leads to, None if it leads to none."""
    named = parse_qs(plain_text(search, 4 * _LONGEST).removeprefix("?"))
    account, signal_id = (plain_text(named.get(name, [""])[0]) for name in ("account", "signal"))
    return Linked(account=account, signal_id=signal_id) if account and signal_id else None


def wanted_of(
    *, symbol: object, verdict: object, direction: object, reason: object, first_day: object, last_day: object, zone: tzinfo
) -> Wanted:
    """Return what a reader's choices ask for; a choice that makes no sense leaves nothing out.

    Args:
        first_day: An ISO date in the zone, from whose beginning.
        last_day: An ISO date in the zone, to whose end.
    """
    return Wanted(
        symbol=plain_text(symbol) or None,
        verdict=next((each for each in Verdict if each.value == verdict), None),
        direction=next((each for each in Direction if each.value == direction), None),
        reason=plain_text(reason).strip(),
        since=_midnight(first_day, zone, days_later=0),
        before=_midnight(last_day, zone, days_later=1),
    )


def pages_of(count: int, page: object, *, size: int) -> tuple[int, int]:
    """Return the page to show, within those there are, and how many there are (one, if there is nothing to show)."""
    pages = max(1, -(-count // size))
    return (min(max(page, 0), pages - 1) if isinstance(page, int) else 0), pages


def counts_said(counts: Counts) -> str:
    """Return how many decisions there are by verdict."""
    if not counts.of(None):
        return "No decisions."
    reduced = f" ({counts.reduced:,} of them with fewer units than their base size)" if counts.reduced else ""
    noun = "decision" if counts.of(None) == 1 else "decisions"
    return f"{counts.of(None):,} {noun}: {counts.accepted:,} accepted{reduced}, {counts.rejected:,} refused."


def verdict_said(decided: DecidedSignal) -> tuple[str, str]:
    """Return a verdict in words, and the kind of its mark."""
    if decided.verdict is Verdict.REJECTED:
        return "refused", "plain"
    return ("accepted, reduced", "warn") if decided.units < decided.base_units else ("accepted", "good")


def why_said(decided: DecidedSignal) -> tuple[str, ...]:
    """Return what stood against a signal: why it was refused, or what cut its size; nothing if it got all it asked for."""
    reasons = tuple(each for each in decided.reason.split("; ") if each)
    if decided.verdict is Verdict.REJECTED or decided.units == decided.base_units:
        return reasons
    return (*(line for line in decided.arithmetic if _CUTS.match(line)), *reasons)


def duration(minutes: int) -> str:
    """Return a time in the largest unit that it is a whole number of."""
    for size, name in ((1440, "day"), (60, "hour")):
        if minutes >= size and minutes % size == 0:
            count = minutes // size
            return f"{count} {name}{'' if count == 1 else 's'}"
    return f"{minutes} min"


def price(symbol: str, value: float | Decimal | None) -> str | None:
    """Return a price to a tenth of a pip."""
    return None if value is None else f"{value:.{3 if symbol.endswith('JPY') else 5}f}"


def money(amount: Decimal, currency: str) -> str:
    """Return an amount of account currency with its sign."""
    return f"{amount:+,.2f} {currency}".strip()


def key_figures(decided: DecidedSignal) -> tuple[tuple[str, str], ...]:
    """Return what a signal said, each with its name: prices, strength, uncertainty, and the state of the market."""
    signal = decided.signal

    def level(name: str, value: float) -> tuple[str, str]:
        return f"{name}, {100 * (value / signal.price - 1):+.2f} %", str(price(signal.symbol, value))

    return (
        ("price then", str(price(signal.symbol, signal.price))),
        level("stop", signal.stop),
        level("target", signal.target),
        ("strength, 0 to 1", f"{signal.strength:.2f}"),
        ("uncertainty, of the price", "no forecast" if signal.uncertainty_pct is None else f"{signal.uncertainty_pct:.3f} %"),
        ("the market was", signal.regime.value),
    )


def currency_of(inputs: str) -> str:
    """Return the account's currency out of what a decision was made from (JSON, `DecisionRecord.inputs`)."""
    return str(json.loads(inputs)["event"]["account"]["currency"])


def dimensions(quality: QualityScore) -> tuple[Dimension, ...]:
    """Return the six dimensions in their order."""
    return tuple(
        Dimension(name=name.replace("_", " "), asks=_ASKS[name], value=getattr(quality, name), weight=weight)
        for name, weight in zip(DIMENSIONS, quality.weights or (None,) * len(DIMENSIONS), strict=True)
    )


def quality_said(quality: QualityScore) -> str:
    """Return the figure in a sentence."""
    gave = ", ".join(f"{each.name} {each.gave:.2f} of {each.could_give:.2f}" for each in dimensions(quality))
    return f"What each dimension gave of what it could give: {gave}"


def quality_figure(quality: QualityScore) -> go.Figure:
    """Return bars of what each dimension could give to the weighted mean, and on them what it gave; not dressed yet."""
    rows = dimensions(quality)[::-1]  # the first at the top
    names = [each.name for each in rows]
    figure = go.Figure()
    figure.add_bar(
        x=[each.could_give for each in rows],
        y=names,
        name="could give (weight)",
        orientation="h",
        marker={"color": GREY, "opacity": 0.35},
        hovertemplate="could give %{x:.3f}<extra></extra>",
    )
    figure.add_bar(
        x=[each.gave for each in rows],
        y=names,
        name="gave (weight × value)",
        orientation="h",
        marker={"color": BLUE},
        width=0.45,
        hovertemplate="gave %{x:.3f}<extra></extra>",
    )
    figure.update_layout(barmode="overlay")
    figure.update_xaxes(range=[0, 1.05 * max(each.could_give for each in rows)], fixedrange=True, nticks=5)
    figure.update_yaxes(fixedrange=True)
    return figure


def order_said(order: OrderRecord) -> tuple[str, str, str]:
    """Return an order's status, the kind of its mark, and why: our words, then the broker's."""
    kind, means = _STATUS_MEANS[order.status]
    words = ((order.intent.reason, "we said"), (order.reason, "the broker said"))
    return means, kind, "; ".join(f"{who}: {text}" for text, who in words if text)


def fill_rows(came: Consequences, currency: str, zone: tzinfo) -> list[list[str | None]]:
    """Return when, side, units, price, what made it happen, profit and commission of each fill."""
    return [
        [
            clock_time(each.filled_at, zone),
            each.side.value,
            f"{each.units:,f}",
            price(each.symbol, each.price),
            _FILLED_BY[each.reason],
            money(each.profit, currency) if each.profit else None,
            money(-each.commission, currency) if each.commission else None,
        ]
        for each in came.fills
    ]


def change_rows(came: Consequences, zone: tzinfo) -> list[list[str | None]]:
    """Return when, stop, target, why, and the broker's answer of each change of protection."""
    rows: list[list[str | None]] = []
    for each in came.changes:
        change, answer = each.change, each.answer
        said = "no answer yet" if answer is None else "accepted" if answer.accepted else f"refused: {answer.reason}"
        levels = [price(change.symbol, level) for level in (change.stop, change.target)]
        rows.append([clock_time(change.created_at, zone), *levels, change.reason, said])
    return rows


def member_rows(decided: DecidedSignal, zone: tzinfo) -> list[list[str | None]]:
    """Return source, kind, direction, strength, horizon, price, stop, target and when of each source's opinion."""
    rows: list[list[str | None]] = []
    for each in decided.signal.members:
        levels = [None if each.direction is Direction.NEUTRAL else price(each.symbol, level) for level in (each.stop, each.target)]
        rows.append(
            [
                each.source.replace("_", " "),
                each.kind.value.replace("_", " "),
                each.direction.value,
                f"{each.strength:.3f}",
                duration(each.horizon_minutes),
                price(each.symbol, each.price),
                *levels,
                clock_time(each.made_at, zone),
            ]
        )
    return rows


def outcome(decided: DecidedSignal, came: Consequences, currency: str, zone: tzinfo) -> Outcome:
    """Return what came of a decision.

    Args:
        currency: Of the account; empty if it is unknown.
    """
    if came.position is not None:
        return _position_outcome(came.position, currency, zone)
    entries = [each for each in came.orders if each.intent.purpose is OrderPurpose.OPEN]
    if entries:
        status, kind, words = order_said(entries[-1])
        said = f"The order is {status}{f' ({words})' if words else ''}: no position has come of it."
        return Outcome(word=status, kind=kind, said=said)
    if decided.verdict is Verdict.REJECTED:
        return Outcome(
            word="no order", kind="plain", said=f"No order came of it, for it was refused: {decided.reason or 'no reason given'}."
        )
    return Outcome(word="no order", kind="warn", said="It was accepted, and no order of it is recorded.")


def _position_outcome(record: PositionRecord, currency: str, zone: tzinfo) -> Outcome:
    held = record.position
    what = f"{held.side.value} {held.units:,f} {held.symbol} at {price(held.symbol, held.entry_price)}"
    began = f"{what}, opened {clock_time(held.opened_at, zone)}"
    if record.closed_at is None:
        stops = f"Its stop is at {price(held.symbol, held.stop)}, its target "
        target = f"at {price(held.symbol, held.target)}" if held.target is not None else "nowhere"
        return Outcome(word="still open", kind="plain", said=f"It became a position that is still open: {began}. {stops}{target}.")
    out = f"closed {clock_time(record.closed_at, zone)} at {price(held.symbol, record.exit_price)}"
    if record.profit is None:
        return Outcome(word="closed", kind="plain", said=f"It became a position: {began}, {out}; its result is not known.")
    word, kind = ("won", "good") if record.profit > 0 else ("lost", "bad") if record.profit < 0 else ("even", "plain")
    result = money(record.profit, currency) + ("" if currency else " in account currency")
    return Outcome(
        word=f"{word} {result}",
        kind=kind,
        said=f"It became a position: {began}, {out}. Result: {result}, after commission and interest.",
    )


def total(amounts: Sequence[Decimal]) -> Decimal:
    """Return the sum of amounts."""
    return sum(amounts, Decimal(0))


def _midnight(day: object, zone: tzinfo, *, days_later: int) -> datetime | None:
    try:
        start = date.fromisoformat(plain_text(day)[:10]) + timedelta(days=days_later)
        return datetime.combine(start, time(), tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
