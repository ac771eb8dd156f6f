"""How long to wait before asking again what did not answer."""

from __future__ import annotations

import random
from collections.abc import Iterator

_FIRST_S, _LONGEST_S = 1.0, 60.0


def backoff() -> Iterator[float]:
    """Yield pauses in seconds, without end: each limit is twice the last, up to a minute, and each pause half of it or more.

    The random part keeps engines that lost the same broker from asking it again all at once.
    """
    limit_s = _FIRST_S
    while True:
        yield random.uniform(limit_s / 2, limit_s)
        limit_s = min(2 * limit_s, _LONGEST_S)
