"""What can go wrong between a client and cTrader's server."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """What goes wrong with a request; `after` it was executed, or before."""

    DROP_BEFORE = "the connection is lost before"
    DROP_AFTER = "the connection is lost after"
    SILENT_BEFORE = "no answer ever, and nothing done"
    SILENT_AFTER = "no answer ever, but done"
    LATE = "no answer, and done when `run_late` is called"
    UNKNOWN_AFTER = "UNKNOWN_ERROR, but done"
    LIMITED = "REQUEST_FREQUENCY_EXCEEDED"
    BLOCKED = "BLOCKED_PAYLOAD_TYPE, with a pause"
    SESSION_OVER = "ACCOUNT_NOT_AUTHORIZED"
    UNNAMED = "the events do not name the request"
    REVERSED = "the events come in the wrong order, and only one of them names the request"
    TWICE = "each event comes twice, among those of others"
    REQUOTE = "nobody deals at the price: accepted, then cancelled"
    REJECTED = "accepted for a look, then rejected by an event"
    BUSY = "POSITION_LOCKED"
    UNFILLED = "accepted, and filled when `run_late` is called"
    GARBAGE = "something that is no message comes first"


@dataclass(kw_only=True)
class Planned:
    fault: Fault
    payload_type: int
    code: str
