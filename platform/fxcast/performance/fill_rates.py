"""What currencies were worth in the account's, as far as the fills of a run tell."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from fxcast.domain.order import Fill
from fxcast.performance.lives import Life

# A profit is kept to a hundredth of a cent: of one unit of the account's currency or more it tells a rate to 1 in 10,000.
_LEAST_PROFIT = Decimal(1)


class FillRates:
    """Worth of currencies at the moments of fills.

    A fill in a pair of a currency and the account's tells that currency's worth by its price. One that closes (a part of) a cross
    tells the worth of its quote currency by the profit over the move of the price, and with it that of its base currency.
    """

    def __init__(self, lives: Sequence[Life], currency: str) -> None:
        self._currency = currency
        seen: defaultdict[str, dict[datetime, Decimal]] = defaultdict(dict)
        for life in lives:
            base, quote = life.position.symbol[:3], life.position.symbol[3:]
            for fill in life.fills if currency in (base, quote) else ():
                if quote == currency:
                    seen[base][fill.filled_at] = fill.price
                else:
                    seen[quote][fill.filled_at] = 1 / fill.price
            for fill in life.exits if currency not in (base, quote) else ():
                rate = _told_by_profit(life, (fill,))
                if rate is not None:
                    seen[quote][fill.filled_at] = rate
                    seen[base][fill.filled_at] = rate * fill.price
        self._seen = {name: sorted(by_time.items()) for name, by_time in seen.items()}

    def worth(self, currency: str, at: datetime) -> Decimal | None:
        """Return what one unit was worth at the fill nearest in time that tells it, None if there is none."""
        if currency == self._currency:
            return Decimal(1)
        seen = self._seen.get(currency)
        if not seen:
            return None
        after = bisect_left(seen, at, key=lambda each: each[0])
        near = seen[max(0, after - 1) : after + 1]
        return min(near, key=lambda each: abs(each[0] - at))[1]

    def traded(self, fill: Fill) -> Decimal | None:
        """Return what a fill's units were worth in the account's currency, None if no fill tells it."""
        base, quote = fill.symbol[:3], fill.symbol[3:]
        if base == self._currency:
            return fill.units
        rate = self.worth(quote, fill.filled_at)
        if rate is not None:
            return fill.units * fill.price * rate
        rate = self.worth(base, fill.filled_at)
        return None if rate is None else fill.units * rate

    def loss_at_stop(self, life: Life) -> Decimal | None:
        """Return what a position of this size would have lost at its first stop, in the account's currency.

        The quote currency is converted at the stop itself where the base currency is the account's, for a cross by the position's
        own profit over the move of the price, else by the nearest fill that tells a rate; None if there is none.
        """
        stop = life.intent.stop
        assert stop is not None, "an entry carries its stop"
        base, quote = life.position.symbol[:3], life.position.symbol[3:]
        distance = max(Decimal(0), life.position.side.sign * (life.entry_price - stop))
        if base == self._currency:
            return distance * life.units / stop
        rate = None if quote == self._currency else _told_by_profit(life, life.exits)
        rate = rate or self.worth(quote, life.position.opened_at)
        return None if rate is None else distance * life.units * rate


def _told_by_profit(life: Life, exits: Sequence[Fill]) -> Decimal | None:
    sign, entry_price = life.position.side.sign, life.entry_price
    move = sum((sign * (fill.price - entry_price) * fill.units for fill in exits), Decimal(0))
    profit = sum((fill.profit for fill in exits), Decimal(0))
    return profit / move if abs(profit) >= _LEAST_PROFIT and profit * move > 0 else None
