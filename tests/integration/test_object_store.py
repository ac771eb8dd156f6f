"""The candle store on an S3 server, over real sockets on loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from fxcast.data.store import AppendResult, CandleStore
from fxcast.data.windows import stored_window
from fxcast.domain.candle import to_datetime
from fxcast.domain.market import DETAILS, MarketCandles, PriceSide
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, StoreUnavailable
from tests.factories import make_series
from tests.ports import free_port

BUCKET = "market"
HOUR = Timeframe("1h")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


@pytest.fixture
def root(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an empty store; access keys come from the environment, as everywhere."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    client.create_bucket(Bucket=BUCKET)
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for found in page.get("Contents", []):
            client.delete_object(Bucket=BUCKET, Key=found["Key"])
    return f"s3://{BUCKET}/candles?scheme=http&region=us-east-1&endpoint_override={urlsplit(endpoint).netloc}"


def quoted(bars: int = 1500, price: float = 1.10) -> MarketCandles:
    series = make_series(bars=bars, price=price)  # from 2017-03-01: three months of hours
    details = np.full((bars, len(DETAILS)), np.nan)
    details[:, DETAILS.index("spread")] = 0.0001
    return MarketCandles(candles=series, side=PriceSide.MID, details=details)


def test_what_is_appended_is_read_back_by_another_process_with_its_details(root: str) -> None:
    given = quoted()
    assert CandleStore(root).append(given) == AppendResult(added=1500, completed=0, already_there=0, conflicting=())
    assert CandleStore(root).append(given).already_there == 1500
    read = CandleStore(root).read_market("EURUSD", HOUR)
    assert read.side is PriceSide.MID
    assert np.array_equal(read.candles.values, given.candles.values)
    assert np.array_equal(read.details, given.details, equal_nan=True)
    assert CandleStore(root).symbols() == ("EURUSD",)
    assert CandleStore(root).timeframes("EURUSD") == (HOUR,)
    assert CandleStore(root).span("EURUSD", HOUR) == (
        to_datetime(given.open_times[0]),
        to_datetime(given.candles.close_times[-1]),
    )


def test_a_conflicting_candle_is_refused_and_reported(root: str) -> None:
    CandleStore(root).append(quoted(bars=10))
    result = CandleStore(root).append(quoted(bars=3, price=1.2))
    assert [moment.hour for moment in result.conflicting] == [0, 1, 2]
    assert np.array_equal(CandleStore(root).read("EURUSD", HOUR).values, quoted(bars=10).candles.values)


def test_a_window_is_read_from_the_months_that_it_needs(root: str) -> None:
    given = quoted()
    CandleStore(root).append(given)
    moment = to_datetime(given.candles.close_times[1200])
    window = stored_window(CandleStore(root), "EURUSD", HOUR, moment, 100)
    assert np.array_equal(window.open_times, given.open_times[1101:1201])


def test_writers_that_meet_lose_nothing(root: str) -> None:
    CandleStore(root).append(quoted(bars=1))
    whole = quoted(bars=21)

    def write(first: int) -> None:
        for position in range(first, 21, 2):
            CandleStore(root).append(whole.slice(position, position + 1))

    writers = [threading.Thread(target=write, args=(first,)) for first in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert np.array_equal(CandleStore(root).read("EURUSD", HOUR).open_times, whole.open_times)


def test_of_writers_with_conflicting_candles_the_one_whose_candle_did_not_stay_is_told(root: str) -> None:
    results: dict[float, list[bool]] = {1.1: [], 1.2: []}

    def write(price: float) -> None:
        for position in range(4):
            part = quoted(bars=4, price=price).slice(position, position + 1)
            results[price].append(bool(CandleStore(root).append(part).conflicting))

    writers = [threading.Thread(target=write, args=(price,)) for price in results]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    stored = CandleStore(root).read("EURUSD", HOUR)
    for price, told in results.items():
        assert told == (stored.values != quoted(bars=4, price=price).candles.values).any(axis=1).tolist()


def test_a_server_that_is_away_or_has_no_such_bucket_is_named(root: str) -> None:
    nobody = root.replace(root.rsplit("=", 1)[1], f"127.0.0.1:{free_port()}")
    with pytest.raises(StoreUnavailable, match="market/candles"):
        CandleStore(nobody).append(quoted(bars=1))
    with pytest.raises(StoreUnavailable, match="nowhere"):
        CandleStore(root.replace(BUCKET, "nowhere")).append(quoted(bars=1))


def test_a_missing_series_is_refused_with_what_exists(root: str) -> None:
    CandleStore(root).append(quoted(bars=1))
    with pytest.raises(BadCandles, match="found GBPUSD 1h; allowed: EURUSD 1h"):
        CandleStore(root).read("GBPUSD", HOUR)
