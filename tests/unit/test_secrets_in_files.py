"""No file of the repository holds what looks like a credential, but those that tests make up, each named here."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).resolve().parents[2]
_THIS = Path(__file__).resolve().relative_to(_REPOSITORY)

# The forms by which the vendors' own scanners know them; ours is SECRET_PREFIX of adapters/storage/access_tokens.py.
_FORMS = {
    "private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "AWS secret key": r"(?i)aws_secret_access_key\W{1,4}[A-Za-z0-9/+]{40}\b",
    "Google API key": r"\bAIza[0-9A-Za-z_-]{35}\b",
    "Google service account": r'"private_key_id"\s*:\s*"[0-9a-f]{40}"',
    "GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})\b",
    "GitLab token": r"\bglpat-[A-Za-z0-9_-]{20,}",
    "Slack token": r"\bxox[abposr]-[A-Za-z0-9-]{10,}",
    "Slack webhook": r"hooks\.slack\.com/services/T[A-Z0-9]{6,}/[A-Za-z0-9/]+",
    "PyPI token": r"\bpypi-[A-Za-z0-9_-]{50,}",
    "Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}\b",
    "OANDA token": r"\b[0-9a-f]{32}-[0-9a-f]{32}\b",
    "token of our API": r"\bfxc_[A-Za-z0-9_-]{40,}",
    "JSON web token": r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
    "password in a URL": r"[a-z+]{2,}://[^\s/:@\"'{}<>$*]+:(?!\*\*\*)[^\s/:@\"'{}<>$*…]+@(?!127\.0\.0\.1\b)[A-Za-z0-9.-]+",
    "secret in an assignment": (
        r"(?i)\b\w*(?:token|password|passwd|secret|api_?key)\w*[\"']?\s*[:=]\s*[\"'](?=[^\"']*[0-9])(?=[^\"']*[A-Za-z])[A-Za-z0-9+/=_.-]{20,}[\"']"
    ),
}

# File, the words found, and why they open nothing.
_OWN_SERVER = "what the server that stands for the vendor asks for; it runs on loopback, for the length of a test"
ALLOWED = {
    ("tests/brokers/ctrader_server.py", 'CLIENT_SECRET: "s3cret-of-the-application"'): _OWN_SERVER,
    ("tests/brokers/oanda_server.py", 'TOKEN = "0123456789abcdef-fedcba9876543210"'): _OWN_SERVER,
    ("tests/vendors/oanda.py", 'TOKEN = "0123456789abcdef-fedcba9876543210"'): _OWN_SERVER,
    ("tests/vendors/tiingo.py", 'TOKEN = "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567"'): _OWN_SERVER,
    ("tests/integration/test_secrets_stay_secret.py", '_PASSWORD = "hush/4711-of-the-database"'): "of a role made by the test",
    ("tests/unit/test_alerts.py", 'TOKEN = "T0K3N-of-the-webhook"'): _OWN_SERVER,
}


def found_in(text: str) -> set[tuple[str, str]]:
    """Return the forms found in a text, with the words."""
    return {(form, match[0]) for form, pattern in _FORMS.items() for match in re.finditer(pattern, text)}


def _is_made_up(file: Path, form: str, words: str) -> bool:
    """Tell whether a test shows a URL whose host has no dot, which is none of the internet's."""
    return file.parts[0] == "tests" and form == "password in a URL" and "." not in words.rpartition("@")[2]


def test_no_file_holds_a_credential() -> None:
    # Those that are not committed yet too: before it is too late.
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=_REPOSITORY, capture_output=True, check=True
    ).stdout
    files = [Path(name) for name in listed.decode().split("\0") if name]
    assert len(files) > 500
    found: set[tuple[str, str]] = set()
    for file in files:
        path = _REPOSITORY / file
        if file != _THIS and path.is_file():
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue  # pictures, weights, archives
            found |= {(str(file), words) for form, words in found_in(text) if not _is_made_up(file, form, words)}
    assert sorted(found - ALLOWED.keys()) == [], "take it out, and if it ever opened something, change that first"
    assert sorted(ALLOWED.keys() - found) == [], "no longer there: take it out of ALLOWED"


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("private key", "-----BEGIN RSA " + "PRIVATE KEY-----"),
        ("AWS access key", "key = AKIA" + "Q" * 16),
        ("GitHub token", "ghp_" + "a1" * 18),
        ("OANDA token", "0a" * 16 + "-" + "b1" * 16),
        ("token of our API", "Authorization: Bearer fxc_" + "Ab3" * 15),
        ("password in a URL", "postgresql+psycopg://trader:" + "hunter2@db.example.com/fx"),
        ("secret in an assignment", "API_TOKEN: '" + "a1b2" * 6 + "'"),
    ],
)
def test_each_form_is_found(form: str, text: str) -> None:
    assert form in {name for name, _ in found_in(text)}


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://trader:***@db/fx",
        "postgresql://trader:${DB_PASSWORD}@db/fx",
        "postgresql://USER:{password}@db/fx",
        'OANDA_TOKEN = "FXCAST_OANDA_TOKEN"',
        "sqlite:///runs/fxcast.db",
    ],
)
def test_a_place_for_a_secret_is_no_secret(text: str) -> None:
    assert found_in(text) == set()
