"""PostgreSQL servers of a test's own, which it may kill: a primary, and a standby that follows it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_port


class PostgresqlServer:
    """One server, on loopback.

    Attributes:
        folder: Its own; `data` lies in it.
        port: Of 127.0.0.1.
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._programs = programs
        # PostgreSQL refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else None
        folder.mkdir()
        if self._user is not None:
            shutil.chown(folder, self._user)

    def run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), "-D", str(self.folder / "data"), *arguments]
        subprocess.run(command, user=self._user, cwd=self.folder, check=True, stdout=subprocess.DEVNULL)

    def create(self) -> None:
        self.run("initdb", "-A", "trust", "-U", "fxcast", "-N")

    def follow(self, primary: PostgresqlServer) -> None:
        """Copy the primary, to follow what it commits from then on."""
        source = f"host=127.0.0.1 port={primary.port} user=fxcast"
        self.run("pg_basebackup", "-d", source, "-R", "-X", "stream", "-c", "fast", "--no-sync")

    def start(self, *settings: str) -> None:
        options = f"-k {self.folder} -h 127.0.0.1 -p {self.port} " + " ".join(f"-c {setting}" for setting in settings)
        self.run("pg_ctl", "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def promote(self) -> None:
        self.run("pg_ctl", "-w", "promote")

    def kill(self) -> None:
        """End it as a machine that loses its power does: its processes end at once, and nothing is written."""
        pid_file = self.folder / "data" / "postmaster.pid"
        if pid_file.exists():
            self.run("pg_ctl", "-m", "immediate", "stop")

    def kill_connection(self, pid: int) -> None:
        """Kill the process of one connection, after which the server starts anew."""
        os.kill(pid, signal.SIGKILL)


@contextmanager
def postgresql_servers(count: int) -> Generator[tuple[PostgresqlServer, ...]]:
    """Folders for servers, which are stopped and gone at the end."""
    found = shutil.which("postgres")
    assert found is not None, "skip without the programs of a PostgreSQL server"
    root = Path(tempfile.mkdtemp(prefix="fxcast-servers-"))
    root.chmod(0o755)
    servers = tuple(PostgresqlServer(root / f"server{number}", Path(found).resolve().parent) for number in range(count))
    try:
        yield servers
    finally:
        for server in servers:
            server.kill()
        shutil.rmtree(root)
