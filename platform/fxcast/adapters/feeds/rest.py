"""What the vendors' interfaces have in common: addresses, time-outs, what an HTTP status means, and candles of the past."""

from __future__ import annotations

import functools
import logging
import math
import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import numpy as np
import structlog
from pydantic import Field

from fxcast.config import Settings
from fxcast.domain.candle import CandleSeries, FloatArray, sound_rows, to_datetime64
from fxcast.domain.market import DETAILS, MarketCandles, PriceSide
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCredentials, BadSetting, Disconnected, FxcastError, RateLimited

log = structlog.get_logger(__name__)

# What reading a message of another shape than the vendor documents raises.
NOT_UNDERSTOOD = (ValueError, KeyError, TypeError, IndexError, AttributeError)

_OK = 200
_HTTP = r"^https?://[^/]+(/.*)?[^/]$"
_WEBSOCKET = r"^wss?://[^/]+(/.*)?[^/]$"


class VendorSettings(Settings):
    """Where the vendors are and how long they may take; credentials come from the environment (see `credentials`).

    Attributes:
        oanda_stream_url: OANDA's streaming host; the default is that of practice accounts, as below.
        oanda_rest_url: OANDA's REST host.
        tiingo_stream_url: Tiingo's websocket of FX quotes.
        tiingo_rest_url: Tiingo's REST host.
        connect_timeout_s: Within which a connection must come about.
        request_timeout_s: Silence within a REST answer that ends it.
        max_malformed: Messages in a row that can't be read; then the connection is given up.
        rate_limit_pause_s: The pause after a 429 that names none.
    """

    oanda_stream_url: str = Field(default="https://stream-fxpractice.oanda.com", pattern=_HTTP)
    oanda_rest_url: str = Field(default="https://api-fxpractice.oanda.com", pattern=_HTTP)
    tiingo_stream_url: str = Field(default="wss://api.tiingo.com/fx", pattern=_WEBSOCKET)
    tiingo_rest_url: str = Field(default="https://api.tiingo.com", pattern=_HTTP)
    connect_timeout_s: float = Field(default=10.0, gt=0)
    request_timeout_s: float = Field(default=20.0, gt=0)
    max_malformed: int = Field(default=20, ge=1)
    rate_limit_pause_s: float = Field(default=60.0, gt=0)


class MalformedMessages:
    """Counts messages that can't be read, and gives up a connection on which nothing else comes."""

    def __init__(self, vendor: str, in_a_row: int) -> None:
        self._vendor = vendor
        self._allowed = in_a_row
        self._in_a_row = 0
        self.count = 0

    def add(self, problem: Exception) -> None:
        """Count one.

        Raises:
            Disconnected: If there were too many in a row.
        """
        self.count += 1
        self._in_a_row += 1
        log.warning("message not understood", vendor=self._vendor, problem=type(problem).__name__, in_a_row=self._in_a_row)
        if self._in_a_row >= self._allowed:
            self._in_a_row = 0
            raise Disconnected(f"{self._vendor}: {self._allowed} messages in a row could not be read") from None

    def end(self) -> None:
        """Note a message that could be read, or a new connection."""
        self._in_a_row = 0


def open_client(settings: VendorSettings, headers: Mapping[str, str], *, endless: bool = False) -> httpx.AsyncClient:
    """Return a client of a vendor's HTTP interface; neither proxies nor .netrc of the environment count.

    Args:
        endless: Whether an answer may be silent for any time; the reader watches it.
    """
    logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it logs every address, and OANDA's hold the account
    timeout = httpx.Timeout(settings.request_timeout_s, connect=settings.connect_timeout_s)
    if endless:
        timeout.read = None
    return httpx.AsyncClient(headers=headers, timeout=timeout, trust_env=False, verify=_certificates())


@functools.cache
def _certificates() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)  # 20 ms


async def ask(client: httpx.AsyncClient, url: str, parameters: Mapping[str, str], refusal: Refusal, symbol: str) -> Any:  # noqa: ANN401 - JSON
    """Return the JSON of an answer about a symbol.

    Raises:
        BadCredentials, BadSetting, RateLimited, Disconnected: As `Refusal.of` says; Disconnected also if no JSON comes.
    """
    try:
        response = await client.get(url, params=parameters)
        if response.status_code != _OK:
            raise refusal.of(response.status_code, response.headers, response.text, (symbol,))
        return response.json()
    except (httpx.HTTPError, ValueError) as error:
        raise lost(refusal.vendor, error) from None


def lost(vendor: str, error: Exception) -> Disconnected:
    """Say which error ended a connection, by its class: its text may hold an address or a header, and those hold secrets."""
    return Disconnected(f"{vendor}: {type(error).__name__}")


class Refusal:
    """What a vendor's status code means.

    Args:
        variables: The environment variables that hold the credentials.
        naming: Words by which an answer says that it doesn't know a symbol.
        pause_s: The pause where it asks for one without saying how long.
    """

    def __init__(self, vendor: str, variables: Sequence[str], naming: Sequence[str], pause_s: float) -> None:
        self.vendor = vendor
        self._variables = " and ".join(variables)
        self._naming = tuple(naming)
        self._pause_s = pause_s

    def of(self, code: int, headers: Mapping[str, str], text: str, symbols: Sequence[str]) -> FxcastError:
        """Return BadCredentials, RateLimited, BadSetting or Disconnected.

        Args:
            text: What the vendor says; it is not repeated, since it may hold what we sent.
        """
        match code:
            case 401 | 403:
                return BadCredentials(f"{self.vendor} does not accept {self._variables} (HTTP {code})")
            case 429:
                return RateLimited(self.vendor, retry_after_s(headers.get("Retry-After"), self._pause_s))
            case 400 | 404 if any(word in text.lower() for word in self._naming):
                return BadSetting(f"{self.vendor} does not know one of these symbols: {', '.join(symbols)} (HTTP {code})")
            case _:
                return Disconnected(f"{self.vendor} answered {code}")


def retry_after_s(header: str | None, otherwise: float) -> float:
    """Return the pause that a Retry-After header (seconds, or an HTTP date by the vendor's clock) asks for, in seconds."""
    if header is None:
        return otherwise
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(header) - datetime.now(tz=UTC)).total_seconds()
        except (ValueError, TypeError):  # no date, or one without a zone
            return otherwise
    return max(seconds, 0.0) if math.isfinite(seconds) else otherwise


def vendor_time(text: str) -> datetime:
    """Read an ISO 8601 time with a zone; digits beyond microseconds are cut off.

    Raises:
        ValueError: If it is none, or has no zone.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)


def past_candles(
    symbol: str, timeframe: Timeframe, open_times: Sequence[datetime], rows: FloatArray, details: FloatArray
) -> MarketCandles:
    """Make a series of the middle of what a vendor sent.

    Args:
        open_times: In any order; of a time that comes twice, the first counts.
        rows: (n, 5): open, high, low, close, volume. Unsound ones are left out, and logged.
        details: (n, 11), columns `DETAILS`.
    """
    times = np.array([to_datetime64(moment) for moment in open_times], dtype="datetime64[s]")
    rows, details = rows.reshape(-1, 5), details.reshape(-1, len(DETAILS))
    times, first = np.unique(times, return_index=True)
    rows, details = rows[first], details[first]
    sound = sound_rows(rows)
    for moment in times[~sound]:
        log.warning("vendor's candle refused", symbol=symbol, timeframe=timeframe.name, open_time=str(moment))
    candles = CandleSeries(symbol=symbol, timeframe=timeframe, open_times=times[sound], values=rows[sound])
    return MarketCandles(candles=candles, side=PriceSide.MID, details=details[sound])
