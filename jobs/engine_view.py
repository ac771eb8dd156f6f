"""An engine's status on a terminal."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from actors.engine_status import DecisionStatus, EngineStatus, PositionStatus
from fxcast.adapters.storage.settings_versions import STARTED

_DECISIONS = 8
_EVENTS = 5
_STYLES = {"active": "green", "reducing": "yellow", "halted": "bold red"}


def engine_view(status: EngineStatus) -> RenderableType:
    """Return what an engine does, holds and has decided of late, as a picture of text."""
    parts: list[RenderableType] = [_summary(status)]
    if status["positions"]:
        parts.append(_positions(status["positions"]))
    if status["decisions"]:
        parts.append(_decisions(status["decisions"][-_DECISIONS:]))
    if status["risk_events"]:
        parts.append(_events(status["risk_events"][-_EVENTS:]))
    return Group(*parts)


class StateLines:
    """Prints a line for each new state of an engine, and each new decision and risk event."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._state = ("", "")
        self._told: set[str] = set()

    def __call__(self, status: EngineStatus) -> None:
        if status["describe"]:
            self._once(status["describe"])
        now = (status["state"], status["problem"])
        if now != self._state:
            self._state = now
            self._print(f"{status['account']}: {status['state']}" + (f": {status['problem']}" if status["problem"] else ""))
        for decision in status["decisions"]:
            reason = f": {decision['reason']}" if decision["reason"] else ""
            units = f"{decision['direction']} {decision['units']} {decision['symbol']}"
            self._once(f"{decision['at']} {units} {decision['verdict']}{reason}")
        for event in status["risk_events"]:
            self._once(event)

    def _once(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            self._print(line)

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False)


def loud(describe: str) -> Text:
    """Return what an engine trades; real money in a way that nobody overlooks."""
    return Text(describe, style="bold white on red" if describe.startswith("LIVE") else "bold")


def _summary(status: EngineStatus) -> Table:
    shown = Table(show_header=False, box=None, pad_edge=False)
    shown.add_row("account", loud(f"{status['describe'] or status['account']}"))
    problem = f": {status['problem']}" if status["problem"] else ""
    shown.add_row("engine", f"{status['state']}{problem} (pid {status['pid']})")
    shown.add_row("kill switch", Text(status["kill_switch"], style=_STYLES.get(status["kill_switch"], "")))
    lag = "" if status["lag_s"] is None else f", handled {status['lag_s']:.2f} s after its close"
    total = f" of {status['candles_total']:,}" if status["candles_total"] else ""
    shown.add_row("candles", f"{status['candles_done']:,}{total}, last closed at {status['last_candle'] or '—'}{lag}")
    shown.add_row("equity", status["equity"] or "—")
    shown.add_row("forecasts missed", f"{status['forecasts_missed']:,}")
    for name, value in (
        ("orders on their way", ", ".join(status["orders_waiting"])),
        ("no new risk until", status["cool_off_until"]),
        ("others' positions in", ", ".join(status["foreign"])),
        ("settings", _settings(status)),
    ):
        if value:
            shown.add_row(name, value)
    return shown


def _settings(status: EngineStatus) -> str:
    """Say who set those that are traded with, unless they came with the start."""
    is_told = status["settings_by"] not in {"", STARTED}
    return f"version {status['settings_version']}, set by {status['settings_by']}, not those of the start" if is_told else ""


def _positions(positions: list[PositionStatus]) -> Table:
    shown = Table(title="open positions", title_justify="left")
    for column in ("symbol", "side", "units", "entry", "last", "stop", "target", "R", "candles"):
        shown.add_column(column, justify="left" if column in {"symbol", "side"} else "right")
    for each in positions:
        shown.add_row(
            each["symbol"],
            each["side"],
            each["units"],
            each["entry_price"],
            each["last_price"],
            each["stop"] + (" …" if each["waits_for_broker"] else ""),
            each["target"] or "—",
            "—" if each["r"] is None else f"{each['r']:+.2f}",
            f"{each['bars_held']} of {each['horizon_bars']}",
        )
    return shown


def _decisions(decisions: list[DecisionStatus]) -> Table:
    shown = Table(title="last decisions", title_justify="left")
    for column in ("at", "symbol", "direction", "quality", "uncertainty", "units", "verdict and reason"):
        shown.add_column(column)
    for each in reversed(decisions):
        shown.add_row(
            each["at"],
            each["symbol"],
            each["direction"],
            f"{each['quality']:.3f}",
            "—" if each["uncertainty_pct"] is None else f"{each['uncertainty_pct']:.3f} %",
            each["units"],
            each["verdict"] + (f": {each['reason']}" if each["reason"] else ""),
        )
    return shown


def _events(events: list[str]) -> Table:
    shown = Table(title="risk events", title_justify="left", show_header=False)
    for event in reversed(events):
        shown.add_row(event)
    return shown
