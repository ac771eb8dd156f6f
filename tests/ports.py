"""Loopback ports."""

from __future__ import annotations

import random
import socket

_BELOW_EPHEMERAL = range(20_000, 32_000)  # Linux hands out others by itself: Ray would take one of those before it is used


def free_port() -> int:
    """Return a port that nothing listens on."""
    while True:
        port = random.choice(_BELOW_EPHEMERAL)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue  # taken: another
            return port
