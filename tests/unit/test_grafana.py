"""The dashboards are what Grafana can load, and ask only for what is shown. Grafana itself is not run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.prometheus_files import DASHBOARDS, DEPLOY, OURS, dashboard, names_in, panel_queries, read_yaml

DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def panels_of(path: Path) -> list[dict[str, Any]]:
    return dashboard(path)["panels"]


def test_there_are_dashboards_of_service_engine_and_forecasts_each_with_its_own_id() -> None:
    assert [path.stem for path in DASHBOARDS] == ["fxcast-engine", "fxcast-forecasts", "fxcast-service"]
    assert [dashboard(path)["uid"] for path in DASHBOARDS] == [path.stem for path in DASHBOARDS]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_has_what_grafana_asks_of_one(path: Path) -> None:
    content = dashboard(path)
    assert content["schemaVersion"] >= 39
    assert "id" not in content, "Grafana gives it one"
    ids = [panel["id"] for panel in content["panels"]]
    assert len(ids) == len(set(ids))
    (source,) = (each for each in content["templating"]["list"] if each["type"] == "datasource")
    assert (source["name"], source["query"]) == ("datasource", "prometheus")
    known = {each["name"] for each in content["templating"]["list"]}
    for panel in content["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == DATA_SOURCE, panel["title"]
        assert panel["targets"], panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            assert target["datasource"] == DATA_SOURCE
            used = {name for name in known if f"${name}" in target["expr"]}
            assert target["expr"].count("$") >= len(used) > 0, f"{panel['title']}: a variable that there is narrows it"


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_no_panel_lies_on_another(path: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels_of(path):
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_ask_only_for_what_the_code_shows(path: Path) -> None:
    names = {name for _, query in panel_queries(path) for name in names_in(query)}
    assert names
    assert {name for name in names if name.startswith("ray_fxcast_")} <= OURS


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is missing: apt-get install prometheus")
def test_promtool_parses_every_query(tmp_path: Path) -> None:
    queries = [query for path in DASHBOARDS for _, query in panel_queries(path)]
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    finished = subprocess.run(
        ["promtool", "check", "rules", "rules.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert f"{len(queries)} rules found" in finished.stdout


def test_provisioning_brings_a_prometheus_and_the_dashboards() -> None:
    root = DEPLOY / "grafana" / "provisioning"
    (source,) = read_yaml(root / "datasources" / "fxcast.yaml")["datasources"]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    (provider,) = read_yaml(root / "dashboards" / "fxcast.yaml")["providers"]
    assert (provider["type"], provider["folder"]) == ("file", "fxcast")
