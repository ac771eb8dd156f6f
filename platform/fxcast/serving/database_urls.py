"""Where the service's databases are: the environment's URL before the configured one.

Serve's dashboard shows what is configured; a password belongs into the environment of the node.
"""

from __future__ import annotations

import os
from typing import Literal

Purpose = Literal["metrics", "predictions", "tokens", "web"]


def database_url(purpose: Purpose, configured: str | None) -> str | None:
    """Return the database of a purpose, None for none: `FXCAST_METRICS_DATABASE_URL` and so on, or what is configured."""
    return os.environ.get(f"FXCAST_{purpose.upper()}_DATABASE_URL") or configured
