"""Bearer tokens of the HTTP API: make, replace, revoke and read them.

Only the SHA-256 of a secret is stored. A slow hash with salt is for passwords, which can be guessed; a random secret of 256 bits
can't be, however fast its hash is.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import Connection, Engine, and_, or_, select, update
from sqlalchemy.orm import Session

from fxcast.adapters.storage.database import insert_into, writing
from fxcast.adapters.storage.tables import AccessTokenRow
from fxcast.errors import BadSetting

SECRET_PREFIX = "fxc_"  # noqa: S105  # by which scanners of repositories find a secret; it is none
MAX_LIFETIME = timedelta(days=3650)

_SECRET_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CURRENT = (AccessTokenRow.replaced_at.is_(None), AccessTokenRow.revoked_at.is_(None))


class Scope(StrEnum):
    """What a token may be used for; `ADMIN` includes all, and on the page `TRADE` includes `VIEW`."""

    FORECAST = "forecast"
    VIEW = "view"  # read the page
    TRADE = "trade"  # throw the kill switch there, change settings, start and stop runs
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """A token without its secret.

    Attributes:
        last_four: Characters of the secret to recognise it by.
        scopes: As stored: of a newer fxcast they may be others than those of `Scope`.
        expires_at: First moment at which it is no longer valid, None for never.
        replaced_at: When a rotation put another in its place.
    """

    name: str
    last_four: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    replaced_at: datetime | None
    revoked_at: datetime | None

    def is_valid(self, now: datetime) -> bool:
        """Return whether it opens anything."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def create_token(engine: Engine, *, name: str, scopes: Collection[Scope], now: datetime, lifetime: timedelta | None = None) -> str:
    """Add a token.

    Args:
        engine: An open database.
        name: Who will use it: 1 to 64 letters, digits, dots, underscores or hyphens.
        scopes: At least one.
        now: The time, with its zone.
        lifetime: How long it is valid, None for until revoked.

    Returns:
        The secret; it can't be read again.

    Raises:
        BadSetting: If the name is taken by a token that was not revoked, or an argument is out of range.
    """
    if _NAME.fullmatch(name) is None:
        raise BadSetting(f"name: found {name!r}; allowed: 1 to 64 letters, digits, dots, underscores or hyphens")
    if not scopes:
        raise BadSetting(f"scopes: found none; allowed: {', '.join(Scope)}")
    _check_lifetime(lifetime)
    secret = _new_secret()
    with writing(engine).begin() as connection:
        if not _insert(connection, name, secret, sorted({str(scope) for scope in scopes}), now, lifetime):
            raise BadSetting(f"name: {name!r} is taken; rotate the token of that name, or revoke it first")
    return secret


def rotate_token(engine: Engine, *, name: str, overlap: timedelta, now: datetime, lifetime: timedelta | None = None) -> str:
    """Put a new secret in the place of a token's, with the same scopes; both are valid during the overlap.

    Args:
        engine: An open database.
        name: Whose.
        overlap: How long the replaced secret stays valid; never longer than it would have been.
        now: The time, with its zone.
        lifetime: Of the new secret; by default as long as the replaced one's was.

    Returns:
        The new secret; it can't be read again.

    Raises:
        BadSetting: If no token that was not revoked has the name, or an argument is out of range.
    """
    _check_lifetime(lifetime)
    if not timedelta(0) <= overlap <= MAX_LIFETIME:
        raise BadSetting(f"overlap: found {overlap}; allowed: from 0 to {MAX_LIFETIME.days} days")
    secret = _new_secret()
    with writing(engine).begin() as connection:
        current = select(AccessTokenRow.__table__).where(AccessTokenRow.name == name, *_CURRENT).with_for_update()
        old = connection.execute(current).one_or_none()
        if old is None:
            raise _unknown(connection, name)
        end = now + overlap if old.expires_at is None else min(old.expires_at, now + overlap)
        connection.execute(update(AccessTokenRow).where(AccessTokenRow.id == old.id).values(replaced_at=now, expires_at=end))
        if lifetime is None and old.expires_at is not None:
            lifetime = old.expires_at - old.created_at
        added = _insert(connection, name, secret, old.scopes, now, lifetime)
        assert added, "the lock on the replaced row keeps others out"
    return secret


def revoke_token(engine: Engine, *, name: str, now: datetime) -> int:
    """End a token at once, with all that it replaced; the name is free afterwards.

    Returns:
        How many secrets were valid until now.

    Raises:
        BadSetting: If no token that was not revoked has the name.
    """
    mine = (AccessTokenRow.name == name, AccessTokenRow.revoked_at.is_(None))
    with writing(engine).begin() as connection:
        ended = connection.execute(update(AccessTokenRow).where(*mine).values(revoked_at=now).returning(AccessTokenRow.expires_at))
        ends = ended.scalars().all()
        if not ends:
            raise _unknown(connection, name)
    return sum(end is None or now < end for end in ends)


def list_tokens(engine: Engine) -> list[AccessToken]:
    """Return every token there ever was, by name, the newest of a name first."""
    with Session(engine) as session:
        rows = session.scalars(select(AccessTokenRow).order_by(AccessTokenRow.name, AccessTokenRow.id.desc()))
        return [_access_token(row) for row in rows]


def valid_tokens(engine: Engine, now: datetime) -> Mapping[str, AccessToken]:
    """Return the tokens that are valid, by `token_hash` of their secrets."""
    valid = (AccessTokenRow.revoked_at.is_(None), or_(AccessTokenRow.expires_at.is_(None), AccessTokenRow.expires_at > now))
    with Session(engine) as session:
        return {row.token_hash: _access_token(row) for row in session.scalars(select(AccessTokenRow).where(*valid))}


def token_hash(secret: str) -> str:
    """Return the SHA-256 of a secret in hexadecimal digits: what is stored of it."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _new_secret() -> str:
    return SECRET_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def _check_lifetime(lifetime: timedelta | None) -> None:
    if lifetime is not None and not timedelta(0) < lifetime <= MAX_LIFETIME:
        raise BadSetting(f"lifetime: found {lifetime}; allowed: above 0, at most {MAX_LIFETIME.days} days")


def _insert(connection: Connection, name: str, secret: str, scopes: list[str], now: datetime, lifetime: timedelta | None) -> bool:
    """Add a row, unless the name has a current token; return whether it was added."""
    values = {
        "name": name,
        "token_hash": token_hash(secret),
        "last_four": secret[-4:],
        "scopes": scopes,
        "created_at": now,
        "expires_at": None if lifetime is None else now + lifetime,
    }
    insert = insert_into(connection, AccessTokenRow).values(values)
    added = insert.on_conflict_do_nothing(index_elements=["name"], index_where=and_(*_CURRENT))
    return connection.execute(added.returning(AccessTokenRow.id)).one_or_none() is not None


def _unknown(connection: Connection, name: str) -> BadSetting:
    known = connection.scalars(select(AccessTokenRow.name).where(*_CURRENT).order_by(AccessTokenRow.name)).all()
    return BadSetting(f"no token in use is named {name!r}; there are {', '.join(known) or 'none'}")


def _access_token(row: AccessTokenRow) -> AccessToken:
    return AccessToken(
        name=row.name,
        last_four=row.last_four,
        scopes=tuple(row.scopes),
        created_at=row.created_at,
        expires_at=row.expires_at,
        replaced_at=row.replaced_at,
        revoked_at=row.revoked_at,
    )
