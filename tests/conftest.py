"""Settings of all tests."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

# A busy machine is no failure; pytest-timeout ends what hangs.
# The same examples each time, so that a change fails for what it changed; `make explore` tries new ones.
settings.register_profile("fxcast", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, derandomize=False)
settings.load_profile("fxcast")

# What the shell that starts the tests has set must not reach the jobs that they start; nor its habit of ignoring SIGINT in what it
# starts in the background.
for name in list(os.environ):
    if name == "RAY_ADDRESS" or name.startswith("FXCAST_"):
        del os.environ[name]
signal.signal(signal.SIGINT, signal.default_int_handler)

# Ray's workers are nice, so that anything else on two cores starves them; and Serve gives up on a proxy that is not up in 15 s.
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
