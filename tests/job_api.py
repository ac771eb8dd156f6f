"""Ray's REST API of jobs on loopback, as its JobSubmissionClient speaks it: it remembers what was asked, and runs nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import ray


@dataclass
class JobApi:
    """What it was asked, and what it says.

    Attributes:
        jobs: By submission id, as the API lists them.
        logs: By submission id.
        posted: Bodies of the submits that were taken.
        slow_logs: Submission ids whose logs get no answer.
        asked: Methods and paths, as they were asked.
        answers: While it is not set, requests get no answer.
    """

    url: str = ""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    logs: dict[str, str] = field(default_factory=dict[str, str])
    posted: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    slow_logs: set[str] = field(default_factory=set[str])
    asked: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    packages: set[str] = field(default_factory=set[str])
    answers: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, submission_id: str, *, command: str, status: str, log: str = "", **more: Any) -> None:
        """Add a job, as if it had been submitted."""
        told = {"name": submission_id, "source": "0123456789ab", **more.pop("metadata", {})}
        self.jobs[submission_id] = {
            "type": "SUBMISSION",
            "submission_id": submission_id,
            "entrypoint": command,
            "status": status,
            "metadata": told,
            "start_time": 1_772_452_800_000,
            **more,
        }
        self.logs[submission_id] = log

    def asked_for(self, path: str) -> int:
        """Return how often a path was asked."""
        return sum(asked == path for _, asked in self.asked)

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Return status and content of an answer."""
        match method, path.strip("/").split("/"):
            case "GET", ["api", "version"]:
                return 200, {"version": "4", "ray_version": ray.__version__, "ray_commit": "", "session_name": ""}
            case "GET", ["api", "jobs"]:
                return 200, list(self.jobs.values())
            case "POST", ["api", "jobs"]:
                return self._take(json.loads(body))
            case "GET", ["api", "jobs", job] if job in self.jobs:
                return 200, self.jobs[job]
            case "GET", ["api", "jobs", job, "logs"] if job in self.logs:
                return 200, {"logs": self.logs[job]}
            case "POST", ["api", "jobs", job, "stop"] if job in self.jobs:
                runs = self.jobs[job]["status"] in {"PENDING", "RUNNING"}
                if runs:
                    self.jobs[job] |= {"status": "STOPPED", "end_time": 1_772_452_920_000}
                return 200, {"stopped": runs}
            case "GET", ["api", "packages", _, name]:
                return (200 if name in self.packages else 404), {}
            case "PUT", ["api", "packages", _, name]:
                self.packages.add(name)
                return 200, {}
            case _:
                return 404, {}

    def _take(self, wanted: dict[str, Any]) -> tuple[int, Any]:
        job = wanted["submission_id"]
        if job in self.jobs:
            return (
                500,
                f"Traceback …\nValueError: Job with submission_id {job} already exists. Please use a different submission_id.",
            )
        self.posted.append(wanted)
        self.add(job, command=wanted["entrypoint"], status="RUNNING", metadata=wanted["metadata"])
        return 200, {"job_id": job, "submission_id": job}


@contextmanager
def job_api() -> Generator[JobApi]:
    """Serve the API until the end of the block."""
    api = JobApi()
    api.answers.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer("GET")

        def do_POST(self) -> None:
            self._answer("POST")

        def do_PUT(self) -> None:
            self._answer("PUT")

        def _answer(self, method: str) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with api.lock:
                api.asked.append((method, self.path.rstrip("/")))
            api.answers.wait()
            if any(self.path.endswith(f"/{job}/logs") for job in api.slow_logs):
                api.closing.wait()
            with api.lock:
                status, content = api.answer(method, self.path, body)
            sent = (content if isinstance(content, str) else json.dumps(content)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield api
    finally:
        api.answers.set()
        api.closing.set()
        server.shutdown()
        server.server_close()
        thread.join(10)
