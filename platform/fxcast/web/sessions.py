"""A session is a signed cookie that names the token it was opened with; the token's secret is in neither.

Whether the token is still valid is asked at every request, so a token that is revoked ends its sessions within seconds.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from itsdangerous import BadData, URLSafeSerializer

COOKIE = "fxcast_session"
CSRF_COOKIE = "_csrf_token"  # which Dash sends back as the header below with each of its requests
CSRF_HEADER = "x-csrftoken"

_SALT = "fxcast.web.session"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What a session's cookie says.

    Attributes:
        token: The `token_hash` of the token.
        csrf: What requests that change something must repeat.
        ends_at: First moment at which it is over.
    """

    token: str
    csrf: str
    ends_at: datetime


class Sessions:
    """Open sessions, and read their cookies.

    Args:
        key: Signs the cookies. The same for all replicas, and one that changes ends all sessions.
        lifetime: Of a session.
    """

    def __init__(self, key: str, *, lifetime: timedelta) -> None:
        self._signer = URLSafeSerializer(key, salt=_SALT)
        self._lifetime = lifetime

    def open(self, token: str, *, now: datetime) -> tuple[Session, str]:
        """Open a session of a token; returns it and its cookie's value."""
        session = Session(token=token, csrf=secrets.token_urlsafe(32), ends_at=now + self._lifetime)
        return session, str(self._signer.dumps([session.token, session.csrf, int(session.ends_at.timestamp())]))

    def read(self, cookie: str | None, *, now: datetime) -> Session | None:
        """Return the session of a cookie; None if there is none, it was not signed here or it is over."""
        if not cookie:
            return None
        try:
            token, csrf, ends = self._signer.loads(cookie)
        except BadData:
            return None
        session = Session(token=token, csrf=csrf, ends_at=datetime.fromtimestamp(ends, tz=now.tzinfo))
        return session if now < session.ends_at else None
