"""Find the hourly EUR/USD sample that another package ships."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from fxcast.errors import BadSetup

_PACKAGE = "gym_anytrading"
_INSIDE = Path("datasets", "data", "FOREX_EURUSD_1H_ASK.csv")


def packaged_sample() -> Path:
    """Return where gym-anytrading keeps its hourly EUR/USD candles of 2017 (ask prices, UTC, day first).

    The package is looked up, not imported: importing it would load an environment library that nothing here needs.

    Raises:
        BadSetup: If the package is not installed, or no longer holds the file.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise BadSetup("the packaged sample is not installed: pip install 'fxcast[sample]'")
    sample = Path(spec.origin).parent / _INSIDE
    if not sample.is_file():
        raise BadSetup(f"gym-anytrading is installed without {_INSIDE}: pip install --force-reinstall 'fxcast[sample]'")
    return sample
