"""How far an engine is, as its status tells it."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime

from actors.engine_meters import Outage
from actors.engine_status import EngineStatus, decision_status, position_status, told
from fxcast.adapters.storage.settings_versions import Terms
from fxcast.trading.ports import DecidedSignal, RiskEvent
from fxcast.trading.state import EngineState

_SHOWN = 20  # decisions and risk events of a status


@dataclass
class Progress:
    """What the engine's thread writes down for who asks."""

    state: str = "starting"
    problem: str = ""
    outage: Outage = ""
    seen: datetime | None = None
    refused: bool = False
    done: int = 0
    total: int = 0
    describe: str = ""
    terms: Terms | None = None
    last: datetime | None = None
    lag_s: float | None = None
    equity: str = ""
    decisions: deque[DecidedSignal] = field(default_factory=lambda: deque[DecidedSignal](maxlen=_SHOWN))
    risk_events: deque[RiskEvent] = field(default_factory=lambda: deque[RiskEvent](maxlen=_SHOWN))

    def status(self, account: str, state: EngineState) -> EngineStatus:
        """Say what the engine does, holds and has decided of late."""
        return EngineStatus(
            account=account,
            describe=self.describe,
            pid=os.getpid(),
            state=self.state,
            problem=self.problem,
            refused=self.refused,
            candles_done=self.done,
            candles_total=self.total,
            last_candle="" if self.last is None else self.last.isoformat(),
            lag_s=self.lag_s,
            kill_switch=state.kill_switch.value,
            forecasts_missed=state.forecasts_missed,
            equity=self.equity,
            positions=[position_status(held, state) for held in state.positions.values()],
            orders_waiting=list(state.pending),
            decisions=[decision_status(decided) for decided in list(self.decisions)],
            risk_events=told(list(self.risk_events)),
            losses_in_row=state.losses_in_row,
            cool_off_until="" if state.cool_off_until is None else state.cool_off_until.isoformat(),
            foreign=list(state.foreign),
            settings_version=0 if self.terms is None else self.terms.version,
            settings_by="" if self.terms is None else self.terms.by,
        )
