"""The vendors by name."""

from __future__ import annotations

from fxcast.adapters.clock import SystemClock
from fxcast.adapters.feeds.credentials import OANDA_ACCOUNT, OANDA_TOKEN, TIINGO_TOKEN, read_credential
from fxcast.adapters.feeds.oanda import OandaFeed
from fxcast.adapters.feeds.port import QuoteFeed
from fxcast.adapters.feeds.rest import VendorSettings
from fxcast.adapters.feeds.tiingo import TiingoFeed
from fxcast.errors import BadSetting

__all__ = ["VENDORS", "VendorSettings", "open_vendor"]

VENDORS = ("oanda", "tiingo")


def open_vendor(name: str, settings: VendorSettings) -> QuoteFeed:
    """Return a vendor's feed; nothing is connected yet.

    Raises:
        BadSetting: If there is no such vendor.
        BadCredentials: If the environment lacks its credentials; names the variable.
    """
    match name:
        case "oanda":
            return OandaFeed(read_credential(OANDA_TOKEN), read_credential(OANDA_ACCOUNT), settings)
        case "tiingo":
            return TiingoFeed(read_credential(TIINGO_TOKEN), settings, SystemClock())
        case _:
            raise BadSetting(f"vendor: found {name!r}; allowed: {', '.join(VENDORS)}")
