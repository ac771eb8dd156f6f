"""A person at the broker's own screen: moves stops, closes by hand, opens positions of their own, throws the kill switch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from decimal import ROUND_DOWN, Decimal
from typing import Any

import numpy as np

from fxcast.adapters.clock import ReplayClock
from fxcast.domain.instrument import default_instrument
from fxcast.domain.order import Fill, FillReason, OrderPurpose, Side, Transaction
from fxcast.domain.portfolio import BrokerPosition, Position
from fxcast.trading.simulation.book import Book
from fxcast.trading.simulation.costs import account, commission, rates
from fxcast.trading.simulation.exits import exit_position
from tests.soak.records import Kept, PaperAccount

# The paper book knows no position without a stop; one at which nothing trades stands for none.
_NO_STOP_BELOW, _NO_STOP_ABOVE = Decimal("0.00001"), Decimal(1_000_000)


class Screen:
    """The broker as its port shows it: a stop that a person removed is none."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    def positions(self) -> tuple[BrokerPosition, ...]:
        """Return the open positions."""
        shown = self._kept.broker.positions()
        return tuple(replace(each, stop=None) if each.stop in {_NO_STOP_BELOW, _NO_STOP_ABOVE} else each for each in shown)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kept.broker, name)


class Person:
    """Acts at random.

    Attributes:
        acts: What was done, by kind.
        loosened: Orders whose position's stop was moved away or removed; the engine has to put it back.
    """

    def __init__(self, kept: Kept, clock: ReplayClock, rng: np.random.Generator) -> None:
        self.acts: Counter[str] = Counter()
        self.loosened: set[str] = set()
        self._kept = kept
        self._clock = clock
        self._rng = rng

    def act(self) -> None:
        """Do one thing or another, if there is something to do it to."""
        acts = (self.tighten, self.loosen, self.remove_stop, self.move_target, self.close, self.close_part, self.open, self.leave)
        acts[int(self._rng.integers(len(acts)))]()

    def tighten(self) -> None:
        """Move a stop half the way to the price."""
        for position, price in self._one_of(self._ours()):
            stop = default_instrument(position.symbol).round_price((position.stop + price) / 2)
            if position.side.sign * (price - stop) > 0 and position.side.sign * (stop - position.stop) > 0:
                self._protect("stop tightened", position, replace(position, stop=stop))

    def loosen(self) -> None:
        """Move a stop twice as far away."""
        for position, price in self._one_of(self._ours()):
            stop = position.stop - abs(price - position.stop)
            if position.side is Side.SELL:
                stop = position.stop + abs(price - position.stop)
            if stop > 0 and stop != position.stop:
                self._protect("stop loosened", position, replace(position, stop=stop))
                self.loosened.add(position.client_order_id)

    def remove_stop(self) -> None:
        """Take a stop away."""
        for position, _ in self._one_of(self._ours()):
            stop = _NO_STOP_BELOW if position.side is Side.BUY else _NO_STOP_ABOVE
            self._protect("stop removed", position, replace(position, stop=stop))
            self.loosened.add(position.client_order_id)

    def move_target(self) -> None:
        """Take a target away, or set it as far away as the stop."""
        for position, price in self._one_of(self._ours()):
            far = default_instrument(position.symbol).round_price(price + position.side.sign * Decimal("0.01") * price)
            self._protect("target moved", position, replace(position, target=None if self._rng.random() < 0.5 else far))

    def close(self) -> None:
        """Close a position of the engine's."""
        for position, price in self._one_of(self._ours()):
            self._exit("closed by hand", position, price, position.units)

    def close_part(self) -> None:
        """Close a part of a position of the engine's."""
        for position, price in self._one_of(self._ours()):
            units = (position.units / 2).quantize(Decimal(1000), rounding=ROUND_DOWN)
            if units:
                self._exit("part closed by hand", position, price, units)

    def open(self, of_equity: Decimal | None = None) -> None:
        """Open a position of one's own where the engine has none: mostly a small one, now and then one that takes all the margin.

        Args:
            of_equity: How many times the equity it is worth.
        """
        book = self._broker.book
        entries = {each.intent.symbol for each in book.working.values() if each.intent.purpose is OrderPurpose.OPEN}
        free = [symbol for symbol in book.marks if symbol not in book.positions and symbol not in entries]
        if not free:
            return
        symbol = free[int(self._rng.integers(len(free)))]
        side = Side.BUY if self._rng.random() < 0.5 else Side.SELL
        if of_equity is None:
            of_equity = Decimal(28) if self._rng.random() < 0.2 else Decimal("0.3")
        worth = max(account(book).equity, Decimal(0)) * of_equity
        units = (worth / rates(book).convert(Decimal(1), symbol[:3])).quantize(Decimal(1000), rounding=ROUND_DOWN)
        if not units:
            return
        price = book.marks[symbol].opening(side)
        fill = Fill(
            sequence=book.sequence + 1,
            client_order_id="",
            symbol=symbol,
            side=side,
            units=units,
            price=price,
            reason=FillReason.MANUAL,
            profit=Decimal(0),
            filled_at=self._clock.now(),
            commission=commission(book, symbol, units, price),
        )
        position = Position(
            client_order_id="",
            symbol=symbol,
            side=side,
            units=units,
            entry_price=price,
            stop=_NO_STOP_BELOW if side is Side.BUY else _NO_STOP_ABOVE,
            target=None,
            opened_at=self._clock.now(),
        )
        positions = {**book.positions, symbol: position}
        self._edit(
            "position of a person opened",
            replace(book, sequence=fill.sequence, balance=book.balance - fill.commission, positions=positions),
            (fill,),
        )

    def leave(self) -> None:
        """Close all positions of one's own."""
        foreign = [each for each in self._broker.book.positions.values() if not each.client_order_id]
        for position in foreign:
            price = self._broker.book.marks[position.symbol].closing(position.side)
            self._exit("position of a person closed", position, price, position.units)

    @property
    def _broker(self) -> PaperAccount:
        return self._kept.broker

    def _ours(self) -> list[Position]:
        return [each for each in self._broker.book.positions.values() if each.client_order_id]

    def _one_of(self, positions: list[Position]) -> Iterable[tuple[Position, Decimal]]:
        """Yield one position and the price that would close it; nothing if there is none."""
        if positions:
            position = positions[int(self._rng.integers(len(positions)))]
            yield position, self._broker.book.marks[position.symbol].closing(position.side)

    def _protect(self, kind: str, before: Position, after: Position) -> None:
        book = self._broker.book
        if after != before:
            self._edit(kind, replace(book, positions={**book.positions, after.symbol: after}), ())

    def _exit(self, kind: str, position: Position, price: Decimal, units: Decimal) -> None:
        transactions: list[Transaction] = []
        book = exit_position(
            self._broker.book,
            position,
            price,
            units=units,
            client_order_id=position.client_order_id,
            reason=FillReason.MANUAL,
            at=self._clock.now(),
            transactions=transactions,
        )
        self._edit(kind, book, tuple(transactions))

    def _edit(self, kind: str, book: Book, transactions: tuple[Transaction, ...]) -> None:
        self._broker.edit(book, transactions)
        self.acts[kind] += 1
