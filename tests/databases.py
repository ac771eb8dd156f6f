"""Databases for tests: SQLite always, PostgreSQL where its server's programs and psycopg are installed."""

from __future__ import annotations

import atexit
import importlib.util
import itertools
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest
from sqlalchemy import text

from fxcast.adapters.storage.database import make_engine


def _programs() -> Path | None:
    """Return the folder of PostgreSQL's programs; Debian keeps them off the PATH."""
    on_path = shutil.which("postgres")
    found = [Path(on_path)] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return found[-1].resolve().parent if found else None


_PROGRAMS = _programs()
_HAVE_POSTGRESQL = _PROGRAMS is not None and importlib.util.find_spec("psycopg") is not None

# For `pytest.fixture(params=...)`.
DATABASES = (
    "sqlite",
    pytest.param(
        "postgresql", marks=pytest.mark.skipif(not _HAVE_POSTGRESQL, reason="needs psycopg and the programs of a PostgreSQL server")
    ),
)

_numbers = itertools.count(1)


def new_database(kind: str, folder: Path, *, durable: bool = False) -> str:
    """Return the URL of an empty database: a file in the folder (made by who migrates it), or one of a server started here.

    Args:
        durable: Whether PostgreSQL waits for the disk at each commit, as in earnest; tests can do without.
    """
    if kind == "sqlite":
        return f"sqlite:///{folder / 'fx.db'}"
    name = f"test_{next(_numbers)}"
    engine = make_engine(_url("postgres", durable=durable))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return _url(name, durable=durable)


def _url(name: str, *, durable: bool) -> str:
    return f"postgresql+psycopg://fxcast@/{name}?host={_server(durable)}"


@cache
def _server(durable: bool) -> Path:
    """Start a server that listens on a socket in its own folder only, and return that folder; it is gone when the tests end."""
    assert _PROGRAMS is not None
    programs = _PROGRAMS
    folder = Path(tempfile.mkdtemp(prefix="fxcast-postgres-"))
    # PostgreSQL refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else None
    if user is not None:
        shutil.chown(folder, user)

    def run(program: str, *arguments: str) -> None:
        command = [str(programs / program), "-D", str(folder / "data"), *arguments]
        subprocess.run(command, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)

    run("initdb", "-A", "trust", "-U", "fxcast", "-N")
    run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", f"-k {folder} -h '' -N 300 {'' if durable else '-F'}", "start")

    def stop() -> None:
        run("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(folder)

    atexit.register(stop)
    return folder
