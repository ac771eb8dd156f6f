"""The doctor on a real cluster: healthy, and with each thing broken for real."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import venv
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import ray
from alembic import command
from sqlalchemy import Engine, func, select

from fxcast.adapters.storage.database import alembic_config, migrate
from fxcast.adapters.storage.engine_tables import EngineLeaseRow
from fxcast.adapters.storage.probe import probe_database
from fxcast.cluster.local import REPOSITORY
from tests.cluster_nodes import agent_ports
from tests.ports import free_port
from tests.state import job_database
from tests.waiting import wait_for

Findings = dict[str, list[dict[str, Any]]]


def _environment() -> dict[str, str]:
    address = ray.get_runtime_context().gcs_address
    path = os.pathsep.join([str(REPOSITORY / "platform"), str(REPOSITORY)])
    return {**os.environ, "PYTHONPATH": path, "RAY_ADDRESS": address}


def _doctor(*options: str) -> tuple[int, Findings]:
    """Run the doctor as a driver of its own; its exit code, and the findings by check."""
    done = subprocess.run(
        [sys.executable, "-m", "jobs.doctor", "--json", *options],
        cwd=REPOSITORY,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout, done.stderr
    assert "hunter2" not in done.stdout
    findings: Findings = {}
    for finding in json.loads(done.stdout)["findings"]:
        findings.setdefault(finding["check"], []).append(finding)
    return done.returncode, findings


def _failed(findings: Findings) -> set[str]:
    return {check for check, found in findings.items() if any(one["state"] == "failed" for one in found)}


@pytest.mark.usefixtures("dashboard_url")
def test_healthy_cluster_has_no_failure_and_nothing_is_left_behind(tmp_path: Path) -> None:
    database = job_database(tmp_path, "fx")
    migrate(database)
    store = tmp_path / "store"
    store.mkdir()
    options = ["--store", str(store), "--database-url", database, "--serve-port", str(free_port()), "--variables", '["PATH"]']
    code, findings = _doctor(*options, "--min-free-gb", "0.001", "--no-require-token")
    assert (code, _failed(findings)) == (0, set())
    passed = {check for check, found in findings.items() if all(one["state"] == "passed" for one in found)}
    assert passed == {"Ray", "versions", "storage", "database", "clocks", "room", "token", "jobs", "service", "variables"}
    assert list(store.iterdir()) == []


@pytest.mark.usefixtures("dashboard_url")
def test_each_broken_thing_is_found_with_what_to_do(tmp_path: Path) -> None:
    old = f"sqlite:///{tmp_path / 'old.db'}"
    command.upgrade(alembic_config(old), "0005")
    with socket.socket() as stranger:  # that listens where Serve should, and says nothing
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        code, findings = _doctor(
            *("--store", str(tmp_path / "absent"), "--models", "/sys", "--database-url", old),
            *("--serve-port", str(stranger.getsockname()[1]), "--variables", '["FXCAST_NOWHERE"]', "--min-free-gb", "1e9"),
        )
    assert code == 1
    assert _failed(findings) == {"storage", "database", "room", "token", "service", "variables"}
    candles, models = findings["storage"]
    assert "absent: there is no such folder" in candles["found"]
    assert "/sys can't be written" in models["found"]  # not even by root
    assert "found schema revision 0005, expected" in findings["database"][0]["found"]
    assert "jobs.migrate" in findings["database"][0]["advice"]
    assert findings["variables"][0]["found"] == "not set: FXCAST_NOWHERE"
    assert all(one["advice"] for found in findings.values() for one in found if one["state"] == "failed")


@pytest.fixture
def skewed_node(dashboard_url: str, tmp_path: Path) -> Generator[str]:
    """Let a machine with an older safetensors, and with two GPUs that are not there, join the cluster; its id."""
    assert dashboard_url
    older = tmp_path / "older" / "safetensors-0.0.1.dist-info"
    older.mkdir(parents=True)
    (older / "METADATA").write_text("Metadata-Version: 2.1\nName: safetensors\nVersion: 0.0.1\n")
    venv.create(tmp_path / "venv", symlinks=True)
    (packages,) = (path for path in sys.path if path.endswith("site-packages"))
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (site / "both.pth").write_text(f"{older.parent}\n{packages}\n")
    before = {node["NodeID"] for node in ray.nodes()}
    (head,) = (node for node in ray.nodes() if node["Alive"])
    program = [str(tmp_path / "venv" / "bin" / "python"), "-c", "from ray.scripts.scripts import main; main()", "start"]
    program += ["--address", ray.get_runtime_context().gcs_address, "--node-ip-address", head["NodeManagerAddress"], "--block"]
    program += ["--num-cpus", "1", "--num-gpus", "2", "--object-store-memory", "100000000", *agent_ports()]

    def alive() -> list[str]:
        return [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeID"] not in before]

    # Of the packages there, those that are folders are found, and fxcast's, which is an entry of a .pth, is not.
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "platform")}
    with subprocess.Popen(program, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: bool(alive()) or process.poll() is not None, timeout_s=120)
            (node_id,) = alive()
            yield node_id
        finally:
            process.terminate()
            process.wait()
            wait_for(lambda: not alive())


def test_node_with_another_version_is_found_and_a_job_refuses_it(skewed_node: str, tmp_path: Path) -> None:
    nowhere = f"postgresql+psycopg://fxcast:hunter2@127.0.0.1:{free_port()}/fx"
    code, findings = _doctor("--store", str(tmp_path), "--database-url", nowhere, "--no-require-token", "--min-free-gb", "0.001")
    assert code == 1
    assert _failed(findings) == {"versions", "GPUs", "database"}
    (versions,) = (one for one in findings["versions"] if one["state"] == "failed")
    assert skewed_node[:6] in versions["node"]
    assert versions["found"].startswith("safetensors: found 0.0.1, the driver has ")
    assert findings["GPUs"][0]["found"] == "Ray declares 2 GPUs, torch sees 0"
    assert len(findings["database"]) == 2
    assert "can't be reached" in findings["database"][0]["found"]
    assert [one["state"] for one in findings["storage"]] == ["passed", "passed"]

    # A job that joins the cluster, as one that is submitted does.
    job = [sys.executable, "-m", "jobs.backtest", "--config", "configs/backtest.yaml", "--output", str(tmp_path / "report")]
    refused = subprocess.run(job, cwd=REPOSITORY, env=_environment(), capture_output=True, text=True, timeout=300, check=False)
    assert refused.returncode == 2, refused.stderr
    (sentence,) = (line for line in refused.stderr.splitlines() if line.startswith("error: "))
    assert "safetensors on node" in sentence
    assert "found 0.0.1, the driver has" in sentence
    assert "constraints.txt" in sentence


@pytest.mark.usefixtures("dashboard_url")
def test_worker_that_imports_another_fxcast_than_the_driver_is_refused(tmp_path: Path) -> None:
    installed = tmp_path / "fxcast"
    installed.mkdir()
    (installed / "__init__.py").write_text('__version__ = "0.0.9"\n')
    driver = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY / 'platform')!r})\n"  # before the folder where it stands
        "import ray\n"
        "from fxcast.cluster.versions import require_equal_versions\n"
        "from jobs.entry import run\n"
        f"ray.init(log_to_driver=False, runtime_env={{'env_vars': {{'PYTHONPATH': {str(tmp_path)!r}}}}})\n"
        "sys.exit(run(lambda: require_equal_versions() or 0))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", driver], cwd=tmp_path, env=_environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "fxcast on node" in done.stderr
    assert "found 0.0.9, the driver has" in done.stderr
    assert "jobs/runtime_env.yaml" in done.stderr


def test_probe_leaves_nothing_in_the_database_and_reads_its_clock(database: Engine, url: str) -> None:
    probe = probe_database(url)
    assert probe.is_file == (database.dialect.name == "sqlite")
    assert (probe.clock_offset_s is None) == probe.is_file
    if probe.clock_offset_s is not None:
        assert abs(probe.clock_offset_s) <= probe.clock_error_s + 0.1  # the server runs on this machine
    with database.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(EngineLeaseRow)) == 0
