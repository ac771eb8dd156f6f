"""Serve fxcast on a cluster where Serve runs already, and beside somebody else's application; prints what was seen as JSON.

A process of its own: the cluster that the other integration tests share serves fxcast all the time.
"""

from __future__ import annotations

import json
import sys

import httpx
from ray import serve
from ray.serve.config import HTTPOptions

from fxcast.cluster.local import REPOSITORY, ray_session
from fxcast.cluster.serve_driver import served
from fxcast.errors import BadSetup
from tests.factories import make_series
from tests.http import body_of, wait_until_ready
from tests.ports import free_port


@serve.deployment(name="Stranger")
class Stranger:
    """Somebody else's application."""

    def __call__(self) -> str:
        return "hello"


def main(model_folder: str, metrics_database_url: str) -> None:
    """Deploy twice on the running Serve: alone, then beside a stranger."""
    config = REPOSITORY / "serve_configs" / "local.yaml"
    args = {"model_folder": model_folder, "metrics_database_url": metrics_database_url}
    port = free_port()
    seen: dict[str, object] = {"port": port}
    with ray_session(num_cpus=4) as dashboard_url:
        serve.start(proxy_location="HeadOnly", http_options=HTTPOptions(host="0.0.0.0", port=port))  # noqa: S104
        with served(config, args=args, port=free_port(), dashboard_url=dashboard_url, timeout_s=600.0) as url:
            seen["url"] = url
            seen["model"] = wait_until_ready(url)["model_version"]
            seen["forecast"] = httpx.post(
                f"{url}/v1/forecast", json=body_of(make_series()), trust_env=False, timeout=600.0
            ).status_code
            handle = serve.run(Stranger.bind(), name="stranger", route_prefix="/stranger")
        seen["left"] = sorted(serve.status().applications)
        seen["stranger"] = handle.remote().result(timeout_s=30.0)
        try:
            with served(config, args=args, port=free_port(), dashboard_url=dashboard_url, timeout_s=600.0):
                seen["refusal"] = None
        except BadSetup as error:
            seen["refusal"] = str(error)
        seen["left at the end"] = sorted(serve.status().applications)
        serve.shutdown()
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
