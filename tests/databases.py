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

_found = shutil.which("postgres")
_PROGRAMS = None if _found is None else Path(_found).resolve().parent
_HAVE_POSTGRESQL = _PROGRAMS is not None and importlib.util.find_spec("psycopg") is not None

# For `pytest.fixture(params=...)`.
DATABASES = (
    "sqlite",
    pytest.param(
        "postgresql", marks=pytest.mark.skipif(not _HAVE_POSTGRESQL, reason="needs psycopg and the programs of a PostgreSQL server")
    ),
)

_numbers = itertools.count(1)


def new_database(kind: str, folder: Path) -> str:
    """Return the URL of an empty database: a file in the folder (made by who migrates it), or one of a server started here."""
    if kind == "sqlite":
        return f"sqlite:///{folder / 'fx.db'}"
    name = f"test_{next(_numbers)}"
    engine = make_engine(_url("postgres"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return _url(name)


def _url(name: str) -> str:
    return f"postgresql+psycopg://fxcast@/{name}?host={_server()}"


@cache
def _server() -> Path:
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
    run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", f"-k {folder} -h '' -F -N 300", "start")

    def stop() -> None:
        run("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(folder)

    atexit.register(stop)
    return folder
