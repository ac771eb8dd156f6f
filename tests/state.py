"""Where the jobs of the integration tests keep what they know: SQLite and a folder, or PostgreSQL and S3 (`make test-state`)."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from tests.databases import new_database
from tests.ports import free_port

ON_SERVERS = os.environ.get("STATE") == "servers"
_BUCKET = "fxcast"


@cache
def job_database(folder: Path, name: str = "records") -> str:
    """Return the URL of a database of a test's folder: the same for the same name; not migrated."""
    return new_database("postgresql", folder) if ON_SERVERS else f"sqlite:///{folder / name}.db"


@cache
def job_store(folder: Path) -> str:
    """Return where a test's candles are: the folder itself, or a place in a bucket of a server on loopback."""
    if not ON_SERVERS:
        return str(folder)
    return f"s3://{_BUCKET}{folder}?scheme=http&region=us-east-1&endpoint_override={urlsplit(_endpoint()).netloc}"


@cache
def _endpoint() -> str:
    """Start an S3 server, which ends with the tests; its keys come from the environment, of Ray's workers too."""
    import boto3
    from moto.server import ThreadedMotoServer  # takes seconds, and few tests come here

    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket=_BUCKET)
    return endpoint
