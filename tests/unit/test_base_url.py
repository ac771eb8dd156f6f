"""Where a running Serve listens, by what its REST API says of it."""

from __future__ import annotations

from typing import Any

import pytest

from fxcast.cluster.serve_driver import base_url


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({}, "http://127.0.0.1:8000"),  # what `serve.start()` leaves to Serve's defaults is not reported
        ({"host": None, "port": 9000}, "http://127.0.0.1:9000"),
        ({"host": "0.0.0.0", "port": 9000, "root_path": "/fx"}, "http://127.0.0.1:9000/fx"),  # noqa: S104  # what Serve reports
        ({"host": "10.0.0.7", "port": 80}, "http://10.0.0.7:80"),
    ],
)
def test_what_the_options_leave_out_is_serves_default(options: dict[str, Any], url: str) -> None:
    assert base_url(options) == url
