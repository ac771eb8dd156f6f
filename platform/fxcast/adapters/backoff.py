"""How long to wait before asking again what did not answer."""

from __future__ import annotations

import random
from collections.abc import Iterator


def backoff(first_s: float = 1.0, longest_s: float = 60.0) -> Iterator[float]:
    """Yield pauses in seconds, without end: each limit is twice the last, up to the longest, and each pause half of it or more.

    The random part keeps those that lost the same broker or vendor from asking it again all at once.
    """
    limit_s = first_s
    while True:
        yield random.uniform(limit_s / 2, limit_s)
        limit_s = min(2 * limit_s, longest_s)
