"""Load the forecast service: forecasts a second and waiting times by clients, memory, restart of a replica. `make bench`.

Each client asks again as soon as it is answered, each time with another window and seed, so that nothing is answered twice.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

import httpx
import numpy as np
from ray import serve
from ray.serve.config import HTTPOptions

from fxcast.cluster.local import REPOSITORY, ray_session
from fxcast.cluster.serve_driver import served
from fxcast.domain.candle import CandleSeries
from fxcast.models.shipped import shipped_model
from fxcast.serving.names import DEPLOYMENT
from tests.benchmarks.processes import family, memory_mb
from tests.benchmarks.result import Against, Figure
from tests.factories import make_series
from tests.http import body_of, wait_until_ready
from tests.ports import free_port

_COMMAND = "python -m tests.benchmarks.service_load"
_FOLDER = REPOSITORY / "runs" / "bench"
_CLIENTS = (1, 4, 16, 64)
_SECONDS = 15.0
_REPLICAS = 2  # max_replicas of the config
_WARM_UP, _LONG_RUN = 200, 2000
_WINDOWS = 6000
_SAMPLES = 50
_LIMITS = {"p95_ms": 200.0, "cold_start_s": 10.0, "memory_mb": 1536.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What some clients saw: milliseconds of each answered forecast, and how many were refused (503) or came too late (504)."""

    per_second: float
    taken_ms: np.ndarray[tuple[int], np.dtype[np.float64]]
    unanswered: int

    def percentile(self, share: float) -> float:
        return float(np.percentile(self.taken_ms, share))


async def load(
    url: str,
    series: CandleSeries,
    clients: int,
    *,
    seconds: float = float("inf"),
    requests: int | None = None,
    num_samples: int = _SAMPLES,
) -> Load:
    """Ask from several clients at once, for a time or for a number of requests."""
    numbers, taken, unanswered = count(), list[float](), 0
    started = time.perf_counter()

    async def client(http: httpx.AsyncClient) -> None:
        nonlocal unanswered
        while time.perf_counter() - started < seconds and (number := next(numbers)) < (requests or 10**9):
            body = asking(series, number, num_samples)
            asked = time.perf_counter()
            answer = await http.post("/v1/forecast", json=body)
            if answer.status_code in {503, 504}:
                unanswered += 1
                await asyncio.sleep(float(answer.headers.get("retry-after", "1")))
                continue
            answer.raise_for_status()
            taken.append((time.perf_counter() - asked) * 1000.0)

    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=url, timeout=120.0, trust_env=False, limits=limits) as http:
        await asyncio.gather(*(client(http) for _ in range(clients)))
    return Load(per_second=len(taken) / (time.perf_counter() - started), taken_ms=np.array(taken), unanswered=unanswered)


def asking(series: CandleSeries, number: int, num_samples: int) -> dict[str, object]:
    """Return a request of its own for each number."""
    return body_of(series.slice(number % _WINDOWS, number % _WINDOWS + 100), num_samples=num_samples, seed=number)


@contextmanager
def service(dashboard_url: str, args: Mapping[str, object]) -> Generator[str]:
    """Serve the shipped model of one-minute candles (15, 60 and 240 minutes) from serve_configs/local.yaml."""
    with served(
        REPOSITORY / "serve_configs" / "local.yaml",
        args={"model_folder": str(shipped_model("1m")), **args},
        port=free_port(),
        dashboard_url=dashboard_url,
        timeout_s=180.0,
    ) as url:
        yield url


def replicas() -> list[int]:
    """Return the processes of the replicas that forecast."""
    return [process for process, command in family(os.getpid()) if f"ServeReplica:fxcast:{DEPLOYMENT}" in command]


def replica_memory_mb() -> float:
    """Return what a replica holds: its own memory and its share of what it shares with others."""
    found = replicas()
    return sum(memory_mb(process, "smaps_rollup", "Pss") for process in found) / max(1, len(found))


def scale_up(url: str, series: CandleSeries) -> None:
    """Load the service until it has all the replicas that it will have."""
    deadline = time.monotonic() + 120
    while len(replicas()) < _REPLICAS:
        assert time.monotonic() < deadline, "no second replica"
        asyncio.run(load(url, series, 16, seconds=5))
    asyncio.run(load(url, series, 16, seconds=15))  # the new one starts meanwhile


def restart_s(url: str) -> tuple[float, float]:
    """Kill the replica; return the seconds until another one starts, and from then until it is ready."""
    (killed,) = replicas()
    os.kill(killed, signal.SIGKILL)
    began = time.perf_counter()
    while not any(
        process != killed and f"SERVE_REPLICA::fxcast#{DEPLOYMENT}" in command for process, command in family(os.getpid())
    ):
        assert time.perf_counter() - began < 60.0, "no replica starts"
        time.sleep(0.05)  # nothing announces what other processes do: they are looked at again
    started = time.perf_counter()
    wait_until_ready(url)
    return started - began, time.perf_counter() - started


def main() -> None:
    """Run the benchmark."""
    series = make_series(bars=_WINDOWS + 100, timeframe="1m", volatility=0.00005)
    with ray_session(num_cpus=4) as dashboard_url:
        # So that the start is the application's, and not Serve's own.
        serve.start(proxy_location="HeadOnly", http_options=HTTPOptions(host="127.0.0.1", port=free_port()))
        with service(dashboard_url, {"max_batch_samples": _SAMPLES, "batch_wait_ms": 0}) as url:
            scale_up(url, series)
            alone = {clients: asyncio.run(load(url, series, clients, seconds=_SECONDS)) for clients in _CLIENTS}
        started = time.perf_counter()
        with service(dashboard_url, {}) as url:
            allowed = Against(name="allowed to a replica", value=_LIMITS["cold_start_s"])
            _publish("service_application_start", time.perf_counter() - started, "s", allowed)
            asyncio.run(load(url, series, 1, requests=10))
            noticed_s, ready_s = restart_s(url)
            _publish("service_replica_start", ready_s, "s", allowed)
            print(f"a killed replica is noticed and its successor begun after {noticed_s:.1f} s")
            scale_up(url, series)
            for clients in _CLIENTS:
                found = asyncio.run(load(url, series, clients, seconds=_SECONDS))
                against = Against(name="one at a time", value=alone[clients].per_second)
                _publish(f"service_forecasts_{clients}_clients", found.per_second, "/s", against)
                for share in (50, 95, 99):
                    against = Against(name="one at a time", value=alone[clients].percentile(share))
                    if (clients, share) == (1, 95):
                        against = Against(name="target", value=_LIMITS["p95_ms"])
                    _publish(f"service_p{share}_{clients}_clients", found.percentile(share), "ms", against)
                print(f"{clients} clients: {found.unanswered} answered 503 or 504; one at a time, {alone[clients].unanswered}")
            asyncio.run(load(url, series, 4, requests=_WARM_UP))
            before = replica_memory_mb()
            asyncio.run(load(url, series, 4, requests=_LONG_RUN))
            after = replica_memory_mb()
            _publish("service_replica_memory", after, "MB", Against(name="allowed", value=_LIMITS["memory_mb"]))
            name = f"before {_LONG_RUN:,} forecasts"
            _publish("service_replica_memory_after_load", after, "MB", Against(name=name, value=before))


def _publish(name: str, value: float, unit: str, against: Against) -> None:
    Figure(name=name, value=value, unit=unit, against=against, command=_COMMAND).publish(_FOLDER)


if __name__ == "__main__":
    main()
