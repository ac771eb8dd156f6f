"""Events to step an engine with."""

from __future__ import annotations

from decimal import Decimal

from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.money import Quote, Rates
from fxcast.domain.portfolio import Account
from fxcast.domain.signal import SignalSource
from fxcast.trading.events import CandleClosed

ACCOUNT = Account(currency="USD", balance=Decimal(100_000), open_profit=Decimal(0))


def candle(
    window: CandleSeries,
    prediction: LDM4TSPrediction | None = None,
    *,
    source: SignalSource = SignalSource.LDM4TS_FORECAST,
    spread_pips: float = 1.0,
    account: Account = ACCOUNT,
) -> CandleClosed:
    """The last candle of a window closes; candles are bids, and the account is in dollars."""
    return CandleClosed(
        window=window,
        predictions={} if prediction is None else {source.value: prediction},
        forecasts_missed=int(prediction is None),
        account=account,
        quote=quote(window, spread_pips),
        rates=Rates(currency="USD", worth={"USD": Decimal(1), "EUR": Decimal("1.1")}),
        seen_at=to_datetime(window.close_times[-1]),
    )


def quote(window: CandleSeries, spread_pips: float) -> Quote:
    bid = Decimal(repr(float(window.closes[-1]))).quantize(Decimal("0.00001"))
    at = to_datetime(window.close_times[-1])
    return Quote(bid=bid, ask=bid + Decimal("0.0001") * Decimal(repr(spread_pips)), at=at)
