"""The paper market as a broker, in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from fxcast.backtest.inner import InnerCandles, observe_inside
from fxcast.backtest.result import FillCost
from fxcast.domain.candle import Candle
from fxcast.domain.instrument import Instrument
from fxcast.domain.money import Quote, Rates
from fxcast.domain.order import BrokerOrder, ChangeAnswer, Fill, OrderIntent, OrderPurpose, ProtectionChange, Transaction
from fxcast.domain.portfolio import Account, BrokerPosition
from fxcast.trading import fill_simulation
from fxcast.trading.config import PaperMarketConfig
from fxcast.trading.fill_simulation import Book, open_book
from fxcast.trading.simulation.costs import execution_cost


class SimulatedBroker:
    """Implements `trading.ports.Broker` and `MarketObserver`: the paper market as `adapters.brokers.paper` has it, without a file.

    Attributes:
        book: The market's book, without the orders that are settled.
        transactions: Fills and interest so far; the first has the sequence 1.
        fill_costs: What each fill cost against the mid, by its sequence.

    Args:
        inner: By symbol, shorter candles that tell in which order prices came inside a candle.
    """

    def __init__(self, config: PaperMarketConfig, *, inner: Mapping[str, InnerCandles] | None = None) -> None:
        self.book: Book = open_book(config)
        self.transactions: list[Transaction] = []
        self.fill_costs: dict[int, FillCost] = {}
        self._settled: dict[str, BrokerOrder] = {}
        self._account = (self.book, fill_simulation.account(self.book))
        self._inner = dict(inner or {})

    def instruments(self, symbols: Sequence[str]) -> Mapping[str, Instrument]:
        """Return pip, tick, lot and margin of each symbol; the paper market trades every pair."""
        return fill_simulation.instruments(self.book, symbols)

    def account(self) -> Account:
        if self._account[0] is not self.book:  # a book is never changed, and asked for its account several times
            self._account = (self.book, fill_simulation.account(self.book))
        return self._account[1]

    def quotes(self, symbols: Sequence[str]) -> Mapping[str, Quote]:
        """Return what each symbol's last candle closed at; one that was never observed is missing."""
        return fill_simulation.quotes(self.book, symbols)

    def rates(self) -> Rates:
        """Return what each currency of the symbols observed is worth in the account's."""
        return fill_simulation.rates(self.book)

    def place_order(self, intent: OrderIntent) -> BrokerOrder:
        """Take an order, or reject it with a reason; the same client_order_id again returns the first one's state."""
        known = self._settled.get(intent.client_order_id)
        if known is not None:
            return known
        book, answer = fill_simulation.place(self.book, intent)
        self._keep(book)
        return answer

    def close_position(self, intent: OrderIntent) -> BrokerOrder:
        """Take an order to close (a part of) a position, as `place_order` does."""
        assert intent.purpose is OrderPurpose.CLOSE, f"order {intent.client_order_id} opens a position"
        return self.place_order(intent)

    def modify_order(self, change: ProtectionChange) -> ChangeAnswer:
        """Set stop and target of an open position, or say why not."""
        self.book, answer = fill_simulation.modify(self.book, change)
        return answer

    def observe(self, symbol: str, candle: Candle, closed_at: datetime) -> None:
        """Fill what a closed candle fills, and book the interest due; one that was taken before changes nothing."""
        for part, book, transactions in observe_inside(self.book, symbol, candle, closed_at, self._inner.get(symbol)):
            self._keep(book)
            self.transactions += transactions
            for transaction in transactions:
                if isinstance(transaction, Fill):
                    spread, slippage = execution_cost(book, transaction, opened_at=part.open_time)
                    self.fill_costs[transaction.sequence] = FillCost(spread=spread, slippage=slippage)

    def order(self, client_order_id: str) -> BrokerOrder | None:
        return self._settled.get(client_order_id) or fill_simulation.order(self.book, client_order_id)

    def open_orders(self) -> tuple[BrokerOrder, ...]:
        return fill_simulation.open_orders(self.book)

    def positions(self) -> tuple[BrokerPosition, ...]:
        return fill_simulation.positions(self.book)

    def newest_sequence(self) -> int:
        return self.book.sequence

    def transactions_since(self, sequence: int) -> tuple[Transaction, ...]:
        """Return the fills and the interest with a higher sequence, in order."""
        return tuple(self.transactions[sequence:])

    def exposure(self) -> Decimal:
        """Return what all open positions are worth, in account currency."""
        return self.account().margin_used * self.book.config.leverage

    def _keep(self, book: Book) -> None:
        """Keep a book; its settled orders, which only ever grow, lie beside it, for a book is copied at every change."""
        if book.settled:
            self._settled.update(book.settled)
            book = replace(book, settled={})
        self.book = book
