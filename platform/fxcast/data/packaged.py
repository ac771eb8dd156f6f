"""The hourly EUR/USD sample that another package ships."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from fxcast.data.importing.files import SourceFile
from fxcast.data.importing.layout import FileFormat
from fxcast.data.importing.read import ImportOptions, read_candles
from fxcast.data.importing.result import ImportResult
from fxcast.domain.market import PriceSide
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadSetup

SAMPLE_OPTIONS = ImportOptions(
    symbol="EURUSD", timeframe=Timeframe("1h"), format=FileFormat.PLAIN, zone="UTC", day_first=True, side=PriceSide.ASK
)

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


def read_packaged_sample() -> ImportResult:
    """Read the sample.

    Raises:
        BadSetup: As `packaged_sample`.
    """
    return read_candles(SourceFile(path=packaged_sample()), SAMPLE_OPTIONS)
