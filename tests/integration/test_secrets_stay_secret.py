"""Jobs that hold secrets, when all goes well and when it fails: no output, log, file or row of theirs repeats one."""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from sqlalchemy import make_url, text

from fxcast.adapters.storage.database import make_engine, migrate
from fxcast.cluster.local import REPOSITORY
from fxcast.data.store import CandleStore
from jobs.entry import REFUSED
from tests.brokers.oanda_server import TOKEN, Fault, OandaServer
from tests.databases import new_database
from tests.factories import make_series
from tests.ports import free_port
from tests.waiting import wait_for

pytestmark = pytest.mark.skipif(
    shutil.which("postgres") is None or importlib.util.find_spec("psycopg") is None,
    reason="needs psycopg and the programs of a PostgreSQL server",
)

_PASSWORD = "hush/4711-of-the-database"  # noqa: S105 - of a role made here
_IN_URL = "hush%2F4711-of-the-database"  # the same
_WRONG = "hush-4712-wrong"
_WEBHOOK = "hush-4713-of-the-webhook"
_SECRETS = (_PASSWORD, _IN_URL, _WRONG, _WEBHOOK, TOKEN)

_BARS = 240


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A PostgreSQL database whose role needs its password."""
    plain = new_database("postgresql", Path())
    engine = make_engine(plain)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"CREATE ROLE hushed SUPERUSER LOGIN PASSWORD '{_PASSWORD}'"))
        rules = Path(str(connection.scalar(text("SHOW hba_file"))))
        before = rules.read_text()
        rules.write_text(f"local all hushed scram-sha-256\n{before}")
        connection.execute(text("SELECT pg_reload_conf()"))
        url = make_url(plain).set(username="hushed", password=_PASSWORD).render_as_string(hide_password=False)
        assert _leaked(url), "a URL with the password would be found"
        yield url
        rules.write_text(before)
        connection.execute(text("SELECT pg_reload_conf()"))
    engine.dispose()


def _environment(secrets: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "FXCAST_"))}
    return {**kept, "PYTHONPATH": f"platform{os.pathsep}.", **secrets}


def _job(name: str, *options: str, url: str) -> subprocess.CompletedProcess[str]:
    environment = _environment({"FXCAST_DATABASE_URL": url, "FXCAST_ALERT_URL": f"https://127.0.0.1:1/{_WEBHOOK}"})
    command = [sys.executable, "-m", f"jobs.{name}", *options]
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300, check=False)


def _leaked(told: str | bytes) -> list[str]:
    content = told.encode() if isinstance(told, str) else told
    return [secret for secret in _SECRETS if secret.encode() in content]


def test_jobs_on_a_database_with_a_password_repeat_it_nowhere(url: str) -> None:
    wrong = make_url(url).set(password=_WRONG).render_as_string(hide_password=False)
    dead = f"postgresql+psycopg://hushed:{_IN_URL}@127.0.0.1:{free_port()}/fx"
    nonsense = f"postgresql+psycopg://hushed:{_IN_URL}@127.0.0.1:port/fx"

    migrated = _job("migrate", url=url)
    assert migrated.returncode == 0, migrated.stderr
    made = _job("token", "--action", "create", "--name", "desk", "--scopes", "forecast", url=url)
    assert made.returncode == 0, made.stderr
    secret = made.stdout.strip()
    assert secret.startswith("fxc_")
    assert secret not in made.stderr + _job("token", "--action", "list", url=url).stdout

    refused = {
        "password authentication failed": _job("migrate", url=wrong),
        "Connection refused": _job("migrate", url=dead),
        "the database URL can't be read": _job("token", "--action", "list", url=nonsense),
        "did you mean --database-url": _job("token", "--action", "list", f"--databse-url={url}", url=url),
        "unrecognized": _job("migrate", url, url=url),
    }
    for words, job in refused.items():
        assert job.returncode == REFUSED, (words, job.stderr)
        assert words in job.stderr
        assert "Traceback" not in job.stderr
    for job in (migrated, made, *refused.values()):
        assert _leaked(job.stdout + job.stderr) == [], job.args
    assert not any(secret.encode() in _dump(url) for secret in (secret, _PASSWORD))


def _dump(url: str) -> bytes:
    """Return every value of every table as text."""
    engine = make_engine(url)
    with engine.connect() as connection:
        tables = connection.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).all()
        rows = [str(row) for table in tables for row in connection.execute(text(f'SELECT * FROM "{table}"'))]  # noqa: S608 - our tables
    engine.dispose()
    return "\n".join(rows).encode()


def test_an_engine_that_trades_with_a_token_and_then_is_locked_out_repeats_no_secret(url: str, tmp_path: Path) -> None:
    migrate(url)
    closes = [1.1 + 0.0006 * math.sin(2 * math.pi * bar / 40) for bar in range(_BARS)]
    CandleStore(tmp_path / "history").append(make_series(closes, range_width=0.0002))
    session = Path(tempfile.mkdtemp(prefix="fxs-"))  # short: Ray's sockets lie below it
    with OandaServer() as server:
        server.account.set_price("EUR_USD", "1.09995", "1.10005")
        engine = {
            "account": "practice",
            "timeframe": "1h",
            "store": str(tmp_path / "store"),
            "poll_s": 0.2,
            "feed": {"provider": "replay", "source": str(tmp_path / "history")},
            "broker": "oanda",
            "oanda": {"rest_url": server.url, "account_id": server.account.account_id},
            "trading": {"use_ldm4ts": False, "min_quality": 0.0, "risk": {"cool_off_minutes": 0}},
        }
        (tmp_path / "trade.yaml").write_text(yaml.safe_dump({"mode": "live", "engine": engine}))
        secrets = {"FXCAST_DATABASE_URL": url, "FXCAST_OANDA_TOKEN": TOKEN, "FXCAST_ALERT_URL": f"https://127.0.0.1:1/{_WEBHOOK}"}
        environment = _environment({**secrets, "RAY_TMPDIR": str(session), "FXCAST_HOME": str(tmp_path)})
        environment["PYTHONPATH"] = os.pathsep.join(str(REPOSITORY / folder) for folder in ("platform", "."))
        output = tmp_path / "output"
        with output.open("w") as told:
            command = [sys.executable, "-m", "jobs.trade", "--config", str(tmp_path / "trade.yaml")]
            job = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=told, stderr=subprocess.STDOUT)
            try:
                wait_for(lambda: server.calls("POST orders") >= 1 or job.poll() is not None, timeout_s=300)
                assert job.poll() is None, output.read_text()
                with server.lock:
                    server.every_call = Fault.UNAUTHORIZED
                wait_for(lambda: "Insufficient authorization" in output.read_text() or job.poll() is not None, timeout_s=300)
            finally:
                job.send_signal(signal.SIGINT)
                job.wait(120)
    try:
        shown = output.read_text()
        assert "practice account" in shown
        assert "FXCAST_OANDA_TOKEN" in shown or "Insufficient authorization" in shown
        written = [file for folder in (session, tmp_path) for file in folder.rglob("*") if file.is_file()]
        assert any("trading_engine" in file.name or "worker-" in file.name for file in written)
        leaks = {str(file): found for file in written if (found := _leaked(file.read_bytes()))}
        assert leaks == {}
        assert _leaked(_dump(url)) == []
    finally:
        shutil.rmtree(session, ignore_errors=True)  # the last processes of the session may still write to it
