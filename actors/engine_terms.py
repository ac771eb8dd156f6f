"""Which of the settings that people have set an engine trades with, and which it passes over until that is proven right."""

from __future__ import annotations

from datetime import datetime

import structlog

from actors.engine_parts import EngineParts, SettingsRefused, may_be_refused
from fxcast.errors import Unavailable
from fxcast.trading.ports import RiskEvent, RiskEventKind

log = structlog.get_logger(__name__)


class TermsInForce:
    """What one engine knows of the versions of its settings.

    A version that can't be traded with is passed over at first. Once a candle was handled with one before it, the fault is proven
    to be its own, and it is marked as refused; if the one before it fails too, the fault is elsewhere, and nothing is marked.
    """

    def __init__(self) -> None:
        self._passed_over: dict[int, str] = {}
        self._proven = 0  # the version that a candle was handled with last

    @property
    def passed_over(self) -> tuple[int, ...]:
        """The versions that are not to be opened."""
        return tuple(self._passed_over)

    def pass_over(self, refused: SettingsRefused) -> None:
        """Leave a version out from now on."""
        problem = str(refused.__cause__)
        self._passed_over[refused.version] = problem
        log.error("settings refused", version=refused.version, problem=problem)

    def have_changed(self, parts: EngineParts) -> bool:
        """Tell whether a person has set others. A database that does not answer is told by the next commit."""
        try:
            return parts.versions.has_newer(parts.terms.version, without=self.passed_over)
        except Unavailable as error:
            log.warning("settings not looked for", problem=str(error))
            return False

    def may_be_refused(self, parts: EngineParts) -> bool:
        """Tell whether what goes wrong may be the settings' fault: not if a candle was handled with them."""
        return parts.terms.version != self._proven and may_be_refused(parts.terms)

    def prove(self, parts: EngineParts, now: datetime) -> tuple[RiskEvent, ...]:
        """Keep that a candle was handled with these settings; return what a person should know of those that were passed over.

        Raises:
            DatabaseUnavailable: If the database does not answer; to be done again.
        """
        if parts.terms.version == self._proven and not self._passed_over:
            return ()
        parts.versions.mark_taken(parts.terms.version, now)
        for version, problem in self._passed_over.items():
            parts.versions.refuse(version, problem)
        problems = [f"version {version} of the settings is not traded with: {each}" for version, each in self._passed_over.items()]
        self._passed_over.clear()
        self._proven = parts.terms.version
        if not problems:
            return ()
        detail = "; ".join((*problems, f"version {self._proven} is"))
        return (RiskEvent(kind=RiskEventKind.SETTINGS, at=now, symbol="", detail=detail),)
