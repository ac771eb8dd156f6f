"""Whatever happens to a position, its stop never gets looser."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from fxcast.domain.instrument import default_instrument
from fxcast.domain.money import Quote
from fxcast.domain.order import ProtectionChange, Side
from fxcast.domain.portfolio import Position
from fxcast.trading.config import ManagementConfig
from fxcast.trading.management import ManagementView, better_price, manage
from fxcast.trading.state import HeldPosition
from tests.factories import HOUR, NOON, make_prediction

PRICES = st.decimals("1.05000", "1.15000", places=5)
OPTIONAL_R = st.none() | st.floats(0.1, 3.0)
CONFIGS = st.builds(
    ManagementConfig,
    min_target_change_pips=st.floats(0.1, 10.0),
    break_even_at_r=OPTIONAL_R,
    trail_at_r=OPTIONAL_R,
    trail_distance_r=st.floats(0.1, 3.0),
    exit_at_horizon=st.booleans(),
    exit_before_weekend_minutes=st.none() | st.integers(1, 10_000),
    target_multiple=st.floats(0.1, 5.0),
    holding_multiple=st.floats(0.01, 5.0),
)


@st.composite
def positions(draw: st.DrawFn) -> HeldPosition:
    side, entry = draw(st.sampled_from(Side)), draw(PRICES)
    stop = entry - side.sign * draw(st.decimals("0", "0.02", places=5))
    return HeldPosition(
        position=Position(
            client_order_id="EURUSD-1-open",
            symbol="EURUSD",
            side=side,
            units=Decimal(10_000),
            entry_price=entry,
            stop=stop,
            target=draw(st.none() | PRICES),
            opened_at=NOON,
        ),
        signal_id="EURUSD-1",
        horizon_bars=draw(st.integers(1, 50)),
        bars_held=0,
        first_stop=stop,
        best_price=entry,
    )


@given(data=st.data(), held=positions(), config=CONFIGS, distance=st.decimals("0", "0.005", places=5))
def test_a_stop_only_tightens_and_never_passes_the_price(
    data: st.DataObject, held: HeldPosition, config: ManagementConfig, distance: Decimal
) -> None:
    sign = held.position.side.sign
    instrument = replace(default_instrument("EURUSD"), min_stop_distance=distance)
    for hour, close in enumerate(data.draw(st.lists(PRICES, min_size=1, max_size=12))):
        spread = data.draw(st.decimals("0", "0.0010", places=5))
        mean = data.draw(st.none() | st.floats(1.0, 1.2))
        view = ManagementView(
            at=NOON + hour * HOUR,
            close=close,
            quote=Quote(bid=close - spread, ask=close, at=NOON),
            instrument=instrument,
            prediction=None if mean is None else make_prediction({240: (mean, 0.002)}),
            horizon_minutes=240,
            uncertainty_pct=None,
            spread=spread,
        )
        held = replace(held, best_price=better_price(held, close), bars_held=hour)
        assert sign * (held.best_price - close) >= 0
        before = (held.position.stop, held.position.target) if held.change is None else (held.change.stop, held.change.target)
        managed = manage(held, view, config)
        closing = view.quote.closing(held.position.side)
        assert sign * (managed.stop - before[0]) >= 0
        assert bool(managed.reasons) == ((managed.stop, managed.target) != before)
        assert not (managed.close_reason and managed.reasons)
        if managed.stop != before[0]:
            assert sign * (closing - managed.stop) >= max(distance, instrument.tick)
        if managed.target != before[1]:
            assert managed.target is not None
            assert sign * (managed.target - closing) > spread
            assert sign * (managed.target - closing) >= distance
        if not managed.reasons:
            continue
        change = ProtectionChange(
            change_id=f"EURUSD-1-open-p{hour}",
            client_order_id="EURUSD-1-open",
            symbol="EURUSD",
            stop=managed.stop,
            target=managed.target,
            reason="; ".join(managed.reasons),
            created_at=view.at + timedelta(seconds=1),
        )
        if data.draw(st.booleans()):  # answered at once, or not yet
            position = replace(held.position, stop=managed.stop, target=managed.target)
            held = replace(held, position=position, change=None)
        else:
            held = replace(held, change=change)
