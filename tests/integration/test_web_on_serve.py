"""The page as Ray Serve hosts it, beside the forecast service: behind the proxy, by the import path that the config names."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import httpx
import ray
import yaml
from playwright.sync_api import expect
from ray import serve
from ray.actor import ActorHandle
from ray.util import list_named_actors

from fxcast.adapters.storage.controls import kill_switch_requests
from fxcast.adapters.storage.database import open_database
from fxcast.cluster.local import REPOSITORY
from fxcast.web.deployment import build
from tests.browser import needs_chromium, visiting
from tests.web_site import Site


def _application() -> dict[str, Any]:
    config = yaml.safe_load((REPOSITORY / "serve_configs" / "web.yaml").read_text())
    return next(each for each in config["applications"] if each["name"] == "web")


def _replica() -> ActorHandle[Any]:
    """The process of the page, of which there is one."""
    actors = cast("list[dict[str, str]]", list_named_actors(all_namespaces=True))
    (found,) = [each for each in actors if "web#WebPage" in each["name"]]
    return ray.get_actor(found["name"], namespace=found["namespace"])


@needs_chromium
def test_the_page_is_served_beside_the_api_hears_of_news_throws_the_kill_switch_and_comes_back_when_killed(
    service_url: str, tmp_path: Path
) -> None:
    site = Site(folder=tmp_path)
    site.fill().dispose()
    application = _application()
    assert application["import_path"] == f"{build.__module__}:{build.__name__}"
    args = {**application["args"], "database_url": site.database_url, "store": str(tmp_path / "store"), "api_url": service_url}
    serve.run(build(args), name="web", route_prefix=application["route_prefix"])
    try:
        url = f"{service_url}{application['route_prefix']}"
        assert httpx.get(f"{url}/healthz", trust_env=False).json() == {"status": "alive"}
        with visiting() as visit:
            visit.page.goto(f"{url}/risk")
            expect(visit.page.locator("#freshness")).to_have_text("live")
            row = visit.page.get_by_role("row").filter(has_text="forecast service")
            expect(row).to_contain_text("ready")
            visit.page.get_by_role("button", name="halted", exact=True).click()
            visit.page.get_by_role("button", name="Set to halted").click()
            expect(visit.page.locator("#risk-said")).to_contain_text("Kill switch of demo: halted, asked for by anonymous.")
            # News come through the proxy by themselves: somebody else asks for something else.
            expect(visit.page.get_by_text("Asked for, and not taken in yet: halted")).to_be_visible()
            assert (visit.errors, visit.outside) == ([], [])
            ray.kill(_replica(), no_restart=True)  # Serve starts another one
            expect(visit.page.locator("#freshness")).to_have_text("no connection: what you see is old")
            expect(visit.page.locator("#freshness")).to_have_text("live", timeout=120_000)
            expect(visit.page.get_by_text("Asked for, and not taken in yet: halted")).to_be_visible()
        database = open_database(site.database_url)
        assert [each.kill_switch for each in kill_switch_requests(database, "demo")][-1] == "halted"
        database.dispose()
        assert httpx.get(f"{service_url}/readyz", trust_env=False).status_code == 200, "the API is where it was"
    finally:
        serve.delete("web")
