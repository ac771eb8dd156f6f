"""A machine of the cluster is lost, with all its processes at once, while it works: what is lost with it is bounded, and told.

A search that loses one is in test_tune_node_loss.py; the loss of the head in test_head_dies.py.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
import pytest
import ray
from ray import serve
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from ray.util.state import list_actors

from actors import trading_engine
from actors.engine_settings import ReplaySetup
from actors.engine_status import EngineStatus
from actors.trading_engine import EngineActor, start_engine
from fxcast.adapters.brokers.paper import PaperBroker
from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.client import ForecastClient
from fxcast.cluster.batch_forecast import BatchForecasts, ForecastSource, WindowRequest, Workers, batch_forecast
from fxcast.cluster.forecast_cache import ForecastCache
from fxcast.cluster.train_driver import TrainOutcome, train_model
from fxcast.cluster.train_plan import TrainPlan
from fxcast.cluster.train_trainer import Progress
from fxcast.domain.candle import CandleSeries, FloatArray, to_datetime
from fxcast.domain.forecaster import Forecaster, WindowBatch
from fxcast.domain.timeframe import Timeframe
from fxcast.models.baselines.random_walk import RandomWalk
from fxcast.serving.names import DEPLOYMENT
from fxcast.trading.config import CandleSide, PaperMarketConfig, TradingConfig
from jobs.engine_calls import follow
from jobs.trade import replay
from jobs.train import plan_training, train
from tests.cluster_nodes import JoinedNode, joined
from tests.http import body_of, wait_until_ready
from tests.integration.service_apps import deployed
from tests.integration.training_run import SHORT, make_job, registered_step
from tests.state import job_database
from tests.waiting import wait_for

HOUR = Timeframe("1h")
pytestmark = pytest.mark.long

HORIZONS = (240, 960)
_CLIENTS = 6


@pytest.fixture
def node(dashboard_url: str) -> Generator[JoinedNode]:
    """A machine that has joined the cluster, with as many CPUs as the first one has free."""
    assert dashboard_url
    with joined(cpus=math.ceil(_free_cpus())) as node:
        yield node


def _free_cpus() -> float:
    """Return how many CPUs nobody has reserved; on the only node, for a node that has left is forgotten first."""
    return ray.available_resources()["CPU"]


def _actors(class_name: str) -> list[Any]:
    # Without the address Ray would ask the newest cluster on this machine, whosever that is.
    address = ray.get_runtime_context().gcs_address
    return cast("list[Any]", list_actors(address, filters=[("class_name", "=", class_name), ("state", "=", "ALIVE")]))


def test_a_training_that_loses_a_node_goes_on_with_the_workers_left_from_the_last_checkpoint(
    dashboard_url: str, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dashboard_url
    every, steps = 10, 60
    # Of each worker, one on either node: more than half of one, for Ray Train goes by the CPUs that there are, also where others
    # have reserved them: it would wait without end for two workers on the node that is left.
    cpus = _free_cpus()
    assert cpus > ray.cluster_resources()["CPU"] / 2
    longer = SHORT.model_copy(update={"steps": steps, "evaluate_every_steps": steps, "checkpoint_every_steps": every})
    job = make_job(store, tmp_path).model_copy(update={"training": longer, "workers": "1:2", "cpus_per_worker": cpus})
    told: list[int] = []
    monkeypatch.setattr("jobs.train.train_model", partial(_told_steps, told))
    plan = plan_training(job)
    run = Path(plan.storage_path) / plan.name / "train"
    lost: list[int] = []

    def lose_after_a_checkpoint(node: JoinedNode) -> None:
        wait_for(lambda: registered_step(run) > 0, timeout_s=600)
        lost.append(registered_step(run))
        assert node.node_id in {worker.node_id for worker in _actors("RayTrainWorker")}
        node.lose()

    with joined(cpus=math.ceil(cpus)) as node, ThreadPoolExecutor(1) as pool:
        losing = pool.submit(lose_after_a_checkpoint, node)
        model = train(job)
        losing.result()
        assert not node.alive
    (kept,) = lost
    assert (model.metrics["step"], model.metrics["stopped_by"]) == (steps, "steps")
    assert every <= kept < steps, "the node was lost in the middle"
    assert sorted(set(told)) == list(range(5, steps + 1, 5)), "nothing was left out"
    repeated = [step for step, times in Counter(told).items() if times > 1]
    assert all(step > kept for step in repeated), "what the checkpoint holds was not done again"
    # Ray's controller takes a checkpoint in every two seconds. A worker may be one ahead of it, and then waits at the next.
    assert len(repeated) * 5 <= 2 * every, "no more than two checkpoints' intervals were done again"


def _told_steps(told: list[int], plan: TrainPlan, progress: Progress, **options: Any) -> TrainOutcome:
    """Train, and note the denoiser's steps as the workers tell them."""

    def both(stage: str, done: int, total: int) -> None:
        if stage == "denoiser":
            told.append(done)
        progress(stage, done, total)

    return train_model(plan, both, **options)


@dataclass(frozen=True, kw_only=True)
class WalkOnNodes:
    """Implements `Forecaster`: the random walk, which on one node does one batch and gets stuck in the next.

    Elsewhere it waits for that, or all might be done before.

    Attributes:
        node_id: Where it gets stuck; empty for nowhere.
        log: A line for each batch that is begun: the node and the moments of its windows.
    """

    walk: RandomWalk
    node_id: str
    log: Path

    @property
    def model_version(self) -> str:
        return self.walk.model_version

    @property
    def timeframe(self) -> Timeframe:
        return self.walk.timeframe

    @property
    def horizons_minutes(self) -> tuple[int, ...]:
        return self.walk.horizons_minutes

    def sample(self, windows: WindowBatch, *, num_samples: int, seeds: Sequence[int]) -> FloatArray:
        """Sample log moves."""
        here = ray.get_runtime_context().get_node_id()
        if self.node_id and here != self.node_id:
            wait_for(self.is_stuck, timeout_s=300)
        with self.log.open("a") as file:
            file.write(f"{here} {' '.join(map(str, windows.closed_at))}\n")
        if self.node_id and here == self.node_id and self.is_stuck():
            wait_for(lambda: False, timeout_s=600)
        return self.walk.sample(windows, num_samples=num_samples, seeds=seeds)

    def is_stuck(self) -> bool:
        """Whether it is stuck in its second batch."""
        return len([node for node, _ in begun(self.log) if node == self.node_id]) > 1


def begun(log: Path) -> list[tuple[str, list[int]]]:
    """Return each batch that was begun, as its node and the moments of its windows."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [(line.split()[0], [int(moment) for moment in line.split()[1:]]) for line in lines]


def test_batch_forecasting_that_loses_a_node_makes_every_forecast_as_if_nothing_had_been(
    dashboard_url: str, series: CandleSeries, tmp_path: Path
) -> None:
    assert dashboard_url
    room, batch = int(_free_cpus()), 8
    batches = 4  # of a block, which is what an actor has in hand
    ends = np.arange(1000, 1000 + 2 * (room + 1) * batches * batch, dtype=np.int64)

    def forecasts(name: str, node_id: str, actors: int) -> BatchForecasts:
        walk = WalkOnNodes(walk=RandomWalk(timeframe=HOUR, horizons_minutes=HORIZONS), node_id=node_id, log=tmp_path / name)
        load: Callable[[], Forecaster] = partial(_itself, walk)
        source = ForecastSource(name=name, model_hash=name, horizons_minutes=HORIZONS, load=load)
        return batch_forecast(
            source,
            [WindowRequest(series=series, ends=ends)],
            timeframe=HOUR,
            num_samples=5,
            cache=ForecastCache(tmp_path / "cache"),
            workers=Workers(actors=actors, batch_windows=batch),
        )

    with joined(cpus=1) as node, ThreadPoolExecutor(1) as pool:
        stuck = WalkOnNodes(walk=RandomWalk(timeframe=HOUR, horizons_minutes=HORIZONS), node_id=node.node_id, log=tmp_path / "hit")

        def lose_when_stuck() -> None:
            wait_for(stuck.is_stuck, timeout_s=300)
            node.lose()

        losing = pool.submit(lose_when_stuck)
        disturbed = forecasts("hit", node.node_id, room + 1)  # so that one of them is on the node, and has no room elsewhere
        losing.result()
        assert not node.alive
    undisturbed = forecasts("calm", "", room)
    assert disturbed.computed == undisturbed.computed == len(ends)
    np.testing.assert_array_equal(disturbed.moves[0], undisturbed.moves[0])
    times = Counter(moment for _, moments in begun(tmp_path / "hit") for moment in moments)
    assert set(times) == set(series.close_times[ends].astype(np.int64).tolist())
    again = [moment for moment, count in times.items() if count > 1]
    assert batch < len(again) <= batches * batch, "the block that the lost node had in hand is done again, and nothing else"


def _itself(forecaster: Forecaster) -> Forecaster:
    return forecaster


def test_a_service_that_loses_a_node_fails_no_more_requests_than_its_replica_held_and_answers_on(
    service_url: str, model_folder: Path, series: CandleSeries
) -> None:
    body = body_of(series.slice(1000, 1100), num_samples=4)
    url = f"{service_url}/nodes"
    # Without a CPU there is no room on the node for the API, which one replica of the model shares the first node with.
    with joined(cpus=0) as node:

        def lose() -> None:
            node.lose()
            wait_for(lambda: not node.alive)  # takes Ray some seconds, in which requests come too

        options = {"num_replicas": 2, "max_replicas_per_node": 1, "health_check_period_s": 3, "ray_actor_options": {"num_cpus": 0}}
        deployed("nodes", model_folder, options)
        try:
            replicas = [each.node_id for each in _actors_named(f"nodes#{DEPLOYMENT}")]
            assert sorted(replicas) == sorted({node.node_id, ray.get_runtime_context().get_node_id()})
            wait_until_ready(url)
            statuses = _asked_while(f"{url}/v1/forecast", body, lose)
            assert set(statuses) <= {200, 503}
            assert statuses[503] <= _CLIENTS, "no more than were under way"
            with ForecastClient(url, timeout_s=120.0, retries=0) as client:
                for seed in range(8):
                    assert client.forecast(series.slice(1000, 1100), seed=seed, num_samples=4).horizons
        finally:
            serve.delete("nodes")


def _actors_named(name: str) -> list[Any]:
    address = ray.get_runtime_context().gcs_address
    actors = cast("list[Any]", list_actors(address, filters=[("state", "=", "ALIVE")]))
    return [actor for actor in actors if name in (actor.name or "")]


def _asked_while(url: str, body: Mapping[str, Any], breaking: Callable[[], None]) -> Counter[int]:
    """Let clients that do not retry ask again and again, before and after something breaks; return the statuses."""
    statuses: list[int] = []
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(timeout=120.0, trust_env=False) as http:
            while not over.is_set():
                statuses.append(http.post(url, json=body).status_code)

    with ThreadPoolExecutor(_CLIENTS) as pool:
        clients = [pool.submit(ask) for _ in range(_CLIENTS)]
        try:
            wait_for(lambda: len(statuses) >= 2 * _CLIENTS)
            breaking()
            after = len(statuses)
            wait_for(lambda: len(statuses) >= after + 4 * _CLIENTS)
        finally:
            over.set()
        for client in clients:
            client.result()
    return Counter(statuses)


@dataclass(frozen=True, kw_only=True)
class _OnNode:
    """Engines as they are, but on one node at first."""

    node_id: str

    def options(self, **options: Any) -> Any:
        first = NodeAffinitySchedulingStrategy(self.node_id, soft=True)
        return EngineActor.options(**options, scheduling_strategy=first)


def test_an_engine_that_loses_its_node_goes_on_at_another_one_and_ends_in_the_same_orders_and_fills(
    node: JoinedNode, store: str, series: CandleSeries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, candles = 2400, 600
    database_url = job_database(tmp_path, "ledger")
    migrate(database_url)
    calm = ReplaySetup(
        account="calm",
        store=store,
        database_url=database_url,
        broker_file=tmp_path / "calm.db",
        start=to_datetime(series.close_times[first]),
        stop=to_datetime(series.close_times[first + candles]),
        trading=TradingConfig(use_ldm4ts=False, min_quality=0.2, use_pattern=True, use_multi_timeframe=True),
        market=PaperMarketConfig(candle_side=CandleSide.ASK),
    )
    moved = calm.model_copy(update={"account": "moved", "broker_file": tmp_path / "moved.db"})
    seen: list[EngineStatus] = []
    places: list[str] = []

    def lose_on_the_way(status: EngineStatus) -> None:
        seen.append(status)
        if status["state"] == "running" and status["candles_done"] > 100 and not places:
            places.append(_actors_named("engine-moved")[0].node_id)
            node.lose()

    with monkeypatch.context() as patched:
        patched.setattr(trading_engine, "EngineActor", _OnNode(node_id=node.node_id))
        engine = start_engine(moved)
    try:
        status = follow(engine, lose_on_the_way, poll_s=0.02)
        places.append(_actors_named("engine-moved")[0].node_id)
    finally:
        ray.kill(engine, no_restart=True)
    assert places == [node.node_id, ray.get_runtime_context().get_node_id()]
    assert (status["state"], status["candles_done"]) == ("finished", candles)
    pids = list(dict.fromkeys(each["pid"] for each in seen))
    assert len(pids) == 2
    lost_at = max(each["candles_done"] for each in seen if each["pid"] == pids[0])
    assert 100 < lost_at < candles, "the node was lost in mid-replay"
    replay(calm)
    database = open_database(database_url)
    undisturbed, disturbed = (SqlLedger(database, engine_id=account) for account in ("calm", "moved"))
    orders = disturbed.orders()
    assert len(orders) >= 10, "the replay trades enough to be a test"
    assert orders == undisturbed.orders()
    assert len({order.intent.client_order_id for order in orders}) == len(orders), "no order is doubled"
    assert disturbed.fills() == undisturbed.fills()
    assert disturbed.equity_curve() == undisturbed.equity_curve(), "no candle is left out or handled twice"
    broker = PaperBroker(moved.broker_file, moved.market)
    assert broker.transactions_since(0) == disturbed.fills()
    broker.close()
