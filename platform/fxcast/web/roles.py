"""Who somebody is on the page, and what that lets them do."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum

from fxcast.adapters.storage.access_tokens import Scope
from fxcast.errors import Forbidden
from fxcast.serving.access import ANONYMOUS


class Role(IntEnum):
    """What a caller may do; each includes those before it."""

    VIEW = 1  # read everything
    TRADE = 2  # throw the kill switch, change settings, start and stop runs
    ADMIN = 3  # put models to use

    @property
    def word(self) -> str:
        """Its name as people and tokens write it."""
        return self.name.lower()


_ROLES = {Scope.VIEW: Role.VIEW, Scope.TRADE: Role.TRADE, Scope.ADMIN: Role.ADMIN}


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks.

    Attributes:
        name: Of the token.
        csrf: What a request that changes something must repeat; empty where nobody signs in.
    """

    name: str
    role: Role
    csrf: str = ""

    def require(self, role: Role) -> None:
        """Do nothing if the role is enough.

        Raises:
            Forbidden: If it is not; says which is needed.
        """
        if self.role < role:
            raise Forbidden("role", self.role.word, f"{role.word} (sign in with a token of that scope)")


EVERYBODY = Caller(name=ANONYMOUS, role=Role.ADMIN)  # where no tokens are set: whoever is on this machine may do everything

caller: ContextVar[Caller] = ContextVar("caller")  # of the request that is answered; set by `session.SignedIn`


def role_of(scopes: Iterable[str]) -> Role | None:
    """Return the highest role that scopes give; None if they are not for the page."""
    found = [_ROLES[Scope(scope)] for scope in scopes if scope in _ROLES]
    return max(found, default=None)
