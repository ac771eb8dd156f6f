"""What tests ask a running service."""

from __future__ import annotations

import time
from typing import Any

import httpx


def wait_until_ready(url: str) -> dict[str, Any]:
    """Return what /readyz says as soon as it is 200: a replica that computes may be slow to answer."""
    deadline = time.monotonic() + 120
    while True:
        answer = httpx.get(f"{url}/readyz", trust_env=False, timeout=60.0)
        if answer.status_code == 200:
            return answer.json()
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.2)  # between looks at another process
