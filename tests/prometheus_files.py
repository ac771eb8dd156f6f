"""What deploy/prometheus and deploy/grafana ask of Prometheus, and what the code says that it shows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from actors.engine_meters import ENGINE_METERS
from actors.feed_meters import FEED_METERS
from fxcast.cluster.meters import Meter
from fxcast.cluster.outcome_meters import OUTCOME_METERS
from fxcast.serving.prometheus import SERVICE_METERS

DEPLOY = Path(__file__).parents[1] / "deploy"
DASHBOARDS = tuple(sorted((DEPLOY / "grafana" / "dashboards").glob("*.json")))
ALL_METERS: tuple[Meter, ...] = (*SERVICE_METERS, *FEED_METERS, *ENGINE_METERS, *OUTCOME_METERS)
OURS = frozenset(name for meter in ALL_METERS for name in meter.exported)


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds."""
    return yaml.safe_load(path.read_text())


def rules() -> list[dict[str, Any]]:
    """Return all alert rules."""
    return [rule for group in read_yaml(DEPLOY / "prometheus" / "alerts.yml")["groups"] for rule in group["rules"]]


def dashboard(path: Path) -> dict[str, Any]:
    """Return a dashboard."""
    return json.loads(path.read_text())


def panel_queries(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the title of each panel with each of its queries, every variable set to all."""
    for panel in dashboard(path)["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], re.sub(r"\$\w+", ".*", target["expr"])


def names_in(query: str) -> set[str]:
    """Return the names of metrics in a query."""
    return set(re.findall(r"\bray_\w+", query))


def names_used() -> set[str]:
    """Return every name that rules, panels and variables of dashboards ask for."""
    queries = [rule["expr"] for rule in rules()]
    for path in DASHBOARDS:
        queries += [query for _, query in panel_queries(path)]
        queries += [each["definition"] for each in dashboard(path)["templating"]["list"] if each["type"] == "query"]
    return {name for query in queries for name in names_in(query)}
