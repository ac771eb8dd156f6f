"""The alert rules: promtool reads them, each is tested, and each leads to words that say what to do."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.prometheus_files import ALL_METERS, DEPLOY, OURS, names_in, read_yaml, rules

PROMETHEUS = DEPLOY / "prometheus"
ROOT = Path(__file__).parents[2]

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is missing: apt-get install prometheus")


def promtool(*arguments: str) -> None:
    finished = subprocess.run(["promtool", *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr


@needs_promtool
def test_promtool_takes_the_config_and_its_rules() -> None:
    promtool("check", "config", "prometheus.yml")


@needs_promtool
def test_each_alert_fires_where_it_should_and_not_beside_it() -> None:
    promtool("test", "rules", "alerts_test.yml")


def test_each_alert_is_tested_to_fire() -> None:
    tested = {
        case["alertname"]
        for test in read_yaml(PROMETHEUS / "alerts_test.yml")["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert tested == {rule["alert"] for rule in rules()}


def test_each_alert_says_how_grave_it_is_what_is_the_matter_and_where_to_read_on() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}, rule["alert"]
        assert rule["annotations"]["summary"], rule["alert"]
        page, anchor = rule["annotations"]["runbook"].split("#")
        headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), flags=re.MULTILINE)
        assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, rule["annotations"]["runbook"]


def test_rules_ask_only_for_what_the_code_or_serve_shows() -> None:
    names = {name for rule in rules() for name in names_in(rule["expr"])}
    assert {name for name in names if name.startswith("ray_fxcast_")} <= OURS
    # Of Serve's own, which the integration test looks up in the pages of a real one.
    assert names - OURS == {"ray_serve_autoscaling_desired_replicas", "ray_serve_autoscaling_target_replicas"}


def test_the_guide_lists_every_number_with_its_labels_and_what_it_means() -> None:
    rows = [line for line in (ROOT / "docs" / "watch.md").read_text().splitlines() if line.startswith("| `ray_fxcast_")]
    assert len(rows) == len(ALL_METERS) == len({meter.name for meter in ALL_METERS})
    for meter, row in zip(ALL_METERS, rows, strict=True):
        _, name, labels, unit, meaning, _ = (cell.strip() for cell in row.split("|"))
        assert name.split("`")[1] in {meter.exported[0], f"ray_{meter.name}"}, row
        assert labels == ", ".join(f"`{label}`" for label in meter.labels), row
        assert (unit, meaning) == (meter.unit, meter.meaning), row
