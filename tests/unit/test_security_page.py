"""docs/security.md names tests that exist, and every secret that the code reads."""

from __future__ import annotations

import re
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[2]
_PAGE = (_REPOSITORY / "docs" / "security.md").read_text(encoding="utf-8")
_SECRET = re.compile(r'"(FXCAST_[A-Z_]*(?:TOKEN|SECRET|PASSWORD|ACCOUNT|CLIENT_ID|ALERT_URL))"')


def test_each_test_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+\.py)`", _PAGE)) | set(re.findall(r"`(test_\w+\.py): ", _PAGE))
    assert len(named) > 15
    there = {file.name for file in (_REPOSITORY / "tests").rglob("test_*.py")}
    assert sorted(named - there) == []


def test_each_secret_that_the_code_reads_is_on_the_page() -> None:
    sources = [file for folder in ("platform", "actors", "jobs") for file in (_REPOSITORY / folder).rglob("*.py")]
    read = {name for file in sources for name in _SECRET.findall(file.read_text(encoding="utf-8"))}
    assert "FXCAST_OANDA_TOKEN" in read
    assert sorted(name for name in read if f"`{name}`" not in _PAGE) == []


def test_each_decision_and_page_that_it_links_to_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)", _PAGE)
    assert links
    assert [link for link in links if not (_REPOSITORY / "docs" / link).exists()] == []
