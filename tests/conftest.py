"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# A busy machine is no failure; pytest-timeout ends what hangs.
settings.register_profile("fxcast", deadline=None)
settings.load_profile("fxcast")
