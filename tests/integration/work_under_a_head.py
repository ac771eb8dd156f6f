"""What `test_head_dies` asks of its own cluster, each as a driver of its own: one dies with the head whose raylet it uses.

start SETUP     deploy the service, start the feed and the engine
look ACCOUNT    print what Serve and the engine say, as JSON
stop ACCOUNT    stop the engine
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import ray
from pydantic import BaseModel
from ray import serve
from ray.serve.config import HTTPOptions

from actors.engine_settings import LiveSetup
from actors.market_feed import FeedSettings, start_feed
from actors.trading_engine import start_engine
from fxcast.serving.names import APPLICATION
from jobs.engine_calls import running, status_of, stop
from tests.integration.service_apps import deployed
from tests.waiting import wait_for


class Work(BaseModel):
    """What runs on the cluster."""

    engine: LiveSetup
    feed: FeedSettings
    model_folder: Path
    http_port: int


def start(setup: str) -> None:
    """Deploy the service with a proxy wherever there is a replica, then start the engine and its feed."""
    work = Work.model_validate_json(Path(setup).read_text())
    wait_for(lambda: ray.cluster_resources().get("CPU", 0) > 0)  # the node has joined
    serve.start(proxy_location="EveryNode", http_options=HTTPOptions(host="127.0.0.1", port=work.http_port))
    deployed(APPLICATION, work.model_folder, {"num_replicas": 1, "ray_actor_options": {"num_cpus": 0.1}})
    start_engine(work.engine)
    start_feed(work.feed)


def look(account: str) -> dict[str, str | int]:
    """Return what Serve and the engine say."""
    application = serve.status().applications.get(APPLICATION)
    status = status_of(running(account))
    return {"serve": "gone" if application is None else application.status.value, "engine": status["state"], "pid": status["pid"]}


_ACTS: dict[str, Callable[[str], object]] = {"start": start, "look": look, "stop": stop}


def main(act: str, argument: str) -> None:
    """Do one of these as a driver of the cluster at RAY_ADDRESS."""
    ray.init(log_to_driver=False, logging_level=logging.WARNING)
    print(json.dumps(_ACTS[act](argument)))
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
