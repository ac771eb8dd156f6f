"""Make, replace, revoke and list the API's bearer tokens: python -m jobs.token --action create --name engine --scopes forecast."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from fxcast.adapters.clock import SystemClock
from fxcast.adapters.storage.access_tokens import (
    AccessToken,
    Scope,
    create_token,
    list_tokens,
    revoke_token,
    rotate_token,
)
from fxcast.adapters.storage.database import Database, open_database
from fxcast.config import JobSettings
from fxcast.errors import BadSetting
from fxcast.terminal import new_console
from jobs.entry import run

_OVERLAP_HOURS = 24.0


# The options that each action takes; it also needs those of _NEEDED that are among them.
_OPTIONS = {
    "create": {"name", "scopes", "expires_days"},
    "rotate": {"name", "expires_days", "overlap_hours"},
    "revoke": {"name"},
    "list": set[str](),
}
_NEEDED = {"name", "scopes"}


class TokenJob(JobSettings):
    """Make, replace, revoke or list the bearer tokens of the HTTP API; a new secret is all that is written to standard output."""

    action: Literal["create", "rotate", "revoke", "list"] = Field(
        description="create, rotate (a new secret beside the old one, for a while), revoke (at once) or list"
    )
    name: str | None = Field(default=None, description="who uses the token; of all but list")
    scopes: tuple[Literal["forecast", "view", "trade", "admin"], ...] | None = Field(
        default=None,
        description="of create: forecast (of the API), view (the page), trade (the page, and what it changes), admin (all)",
    )
    expires_days: float | None = Field(
        default=None,
        gt=0,
        le=3650,
        description="how long a new secret is valid; by default until revoked, and after a rotation as long as the old one was",
    )
    overlap_hours: float | None = Field(
        default=None, ge=0, le=87_600, description=f"of rotate: how long the old secret stays valid, by default {_OVERLAP_HOURS:g}"
    )
    database_url: str = Field(
        default="sqlite:///runs/fxcast.db", description="SQLAlchemy URL of the database (FXCAST_DATABASE_URL)"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job."""
    return run(lambda: _act(TokenJob.parse(arguments), SystemClock().now()))


def _act(settings: TokenJob, now: datetime) -> int:
    _check_options(settings)
    database = open_database(settings.database_url)
    try:
        if settings.action == "list":
            new_console().print(_table(list_tokens(database), now))
        else:
            _change(settings, database, settings.name or "", now)
    finally:
        database.dispose()
    return 0


def _change(settings: TokenJob, database: Database, name: str, now: datetime) -> None:
    lifetime = None if settings.expires_days is None else timedelta(days=settings.expires_days)
    if settings.action == "revoke":
        ended = revoke_token(database, name=name, now=now)
        _say(f"token {name!r} is revoked; secrets that were valid until now: {ended}")
        return
    if settings.action == "create":
        scopes = [Scope(scope) for scope in settings.scopes or ()]
        secret = create_token(database, name=name, scopes=scopes, now=now, lifetime=lifetime)
    else:
        hours = _OVERLAP_HOURS if settings.overlap_hours is None else settings.overlap_hours
        secret = rotate_token(database, name=name, overlap=timedelta(hours=hours), now=now, lifetime=lifetime)
    sys.stdout.write(f"{secret}\n")
    for token in list_tokens(database):
        if token.name == name and token.is_valid(now):
            _say(f"token {name!r} (…{token.last_four}) for {', '.join(token.scopes)}: {_state(token, now)}")
    _say("the secret is shown this once and stored nowhere; send it as Authorization: Bearer SECRET")


def _check_options(settings: TokenJob) -> None:
    """Refuse an option that the action lacks or would ignore."""
    mine = _OPTIONS[settings.action]
    given = {name for name in set[str]().union(*_OPTIONS.values()) if getattr(settings, name) is not None}
    for name in sorted(given - mine):
        option = name.replace("_", "-")
        allowed = ", ".join(sorted(one.replace("_", "-") for one in mine)) or "no other option"
        raise BadSetting(f"{option}: found with {settings.action}; allowed with it: {allowed}")
    for name in sorted((mine & _NEEDED) - given):
        raise BadSetting(f"{name}: missing; {settings.action} needs it")


def _table(tokens: Sequence[AccessToken], now: datetime) -> Table:
    table = Table(title=f"{len(tokens)} tokens", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    for heading in ("name", "secret", "scopes", "created", "state"):
        table.add_column(heading)
    for token in tokens:
        table.add_row(token.name, f"…{token.last_four}", ", ".join(token.scopes), _moment(token.created_at), _state(token, now))
    return table


def _state(token: AccessToken, now: datetime) -> str:
    if token.revoked_at is not None:
        return f"revoked {_moment(token.revoked_at)}"
    if not token.is_valid(now):
        return f"expired {_moment(token.expires_at)}"
    replaced = "" if token.replaced_at is None else "replaced, "
    return f"{replaced}valid until {'revoked' if token.expires_at is None else _moment(token.expires_at)}"


def _moment(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"


def _say(sentence: str) -> None:
    """Tell a person on standard error: standard output is for the secret, which may go to a file or another program."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(sentence, markup=False)


if __name__ == "__main__":
    raise SystemExit(main())
