"""A real browser for tests of the page: Debian's Chromium, driven by Playwright, which may ask nobody but this machine."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

_CHROMIUM = shutil.which("chromium")
_QUIET = [  # it would look for updates, and for names of its own
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_LOCAL = {"127.0.0.1", "localhost"}

_PATIENCE_MS = 45_000

expect.set_options(timeout=_PATIENCE_MS)
needs_chromium = pytest.mark.skipif(_CHROMIUM is None, reason="needs chromium")


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A browser's window, and what went wrong in it.

    Attributes:
        outside: What it asked of others than this machine.
        errors: What its console says of errors.
    """

    context: BrowserContext
    page: Page
    outside: list[str] = field(default_factory=list[str])
    errors: list[str] = field(default_factory=list[str])

    def post(self, url: str, body: str | None) -> str:
        """Send what a page sent, as whoever is signed in here; return the answer's text."""
        return self.page.evaluate(_POST, [url, body])


_POST = """([url, body]) => fetch(url, {
    method: "POST", body,
    headers: {"Content-Type": "application/json", "X-CSRFToken": document.cookie.match(/_csrf_token=([^;]*)/)[1]},
}).then(answer => answer.text())"""


@contextmanager
def visiting(*, width: int = 1200, theme: str = "light") -> Generator[Visit]:
    """Open a window in a browser of its own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=_QUIET)
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme="dark" if theme == "dark" else "light")
        context.set_default_timeout(_PATIENCE_MS)
        visit = Visit(context=context, page=context.new_page())

        def asked(request: Request) -> None:
            parts = urlsplit(request.url)
            if parts.scheme not in {"data", "blob"} and parts.hostname not in _LOCAL:
                visit.outside.append(request.url)

        def said(message: ConsoleMessage) -> None:
            if message.type == "error":
                visit.errors.append(message.text)

        context.on("request", asked)
        visit.page.on("console", said)
        visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
        try:
            yield visit
        finally:
            browser.close()
