"""The token job: one line on standard output, which is the secret."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import pytest

from fxcast.adapters.storage.access_tokens import Scope, list_tokens, token_hash, valid_tokens
from fxcast.adapters.storage.database import migrate, open_database
from jobs.token import TokenJob, main


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'fx.db'}"
    migrate(url)
    return url


def run(url: str, *options: str) -> int:
    return main(["--database-url", url, *options])


def create(url: str, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert run(url, "--action", "create", "--name", "engine", "--scopes", '["forecast"]', *options) == 0
    return capsys.readouterr().out.strip()


def valid_hashes(url: str) -> set[str]:
    return set(valid_tokens(open_database(url), datetime.now(UTC)))


def test_creating_writes_the_secret_to_stdout_and_the_rest_to_stderr(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(url, "--action", "create", "--name", "engine", "--scopes", '["forecast"]', "--expires-days", "90") == 0

    said = capsys.readouterr()
    secret = said.out.removesuffix("\n")
    assert secret.startswith("fxc_")
    assert valid_hashes(url) == {token_hash(secret)}
    assert secret not in said.err
    assert f"token 'engine' (…{secret[-4:]}) for forecast: valid until " in said.err
    (token,) = list_tokens(open_database(url))
    assert token.expires_at == token.created_at + timedelta(days=90)


def test_scopes_are_also_read_without_brackets(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(url, "--action", "create", "--name", "boss", "--scopes", "forecast,admin") == 0

    assert "for admin, forecast: valid until revoked" in capsys.readouterr().err


def test_the_job_knows_every_scope() -> None:
    (scopes, _) = get_args(TokenJob.model_fields["scopes"].annotation)

    assert get_args(get_args(scopes)[0]) == tuple(Scope)


def test_rotating_writes_a_new_secret_and_says_how_long_the_old_one_is_valid(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    old = create(url, capsys)

    assert run(url, "--action", "rotate", "--name", "engine", "--overlap-hours", "2") == 0

    said = capsys.readouterr()
    new = said.out.strip()
    assert valid_hashes(url) == {token_hash(old), token_hash(new)}
    assert f"(…{old[-4:]}) for forecast: replaced, valid until " in said.err
    _, replaced = list_tokens(open_database(url))
    assert replaced.replaced_at is not None
    assert replaced.expires_at == replaced.replaced_at + timedelta(hours=2)


def test_by_default_a_rotation_overlaps_by_a_day(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    create(url, capsys)

    assert run(url, "--action", "rotate", "--name", "engine") == 0

    _, replaced = list_tokens(open_database(url))
    assert replaced.replaced_at is not None
    assert replaced.expires_at == replaced.replaced_at + timedelta(days=1)


def test_revoking_ends_every_secret_of_the_name(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    create(url, capsys)
    assert run(url, "--action", "rotate", "--name", "engine") == 0
    capsys.readouterr()

    assert run(url, "--action", "revoke", "--name", "engine") == 0

    said = capsys.readouterr()
    assert said.out == ""
    assert "token 'engine' is revoked; secrets that were valid until now: 2" in said.err
    assert valid_hashes(url) == set()


def test_the_list_shows_the_state_of_each_token_and_no_secret(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    secret = create(url, capsys)
    assert run(url, "--action", "rotate", "--name", "engine", "--overlap-hours", "0") == 0
    assert run(url, "--action", "create", "--name", "gone", "--scopes", "admin") == 0
    assert run(url, "--action", "revoke", "--name", "gone") == 0
    capsys.readouterr()

    assert run(url, "--action", "list") == 0

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    shown = {(line[0], line[6]) for line in lines if len(line) > 6}
    assert shown == {("engine", "valid"), ("engine", "expired"), ("gone", "revoked")}
    assert f"…{secret[-4:]}" in {line[1] for line in lines if len(line) > 1}
    assert secret not in json.dumps(lines)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--action", "create", "--name", "x"], "scopes: missing; create needs it"),
        (["--action", "rotate"], "name: missing; rotate needs it"),
        (["--action", "revoke", "--name", "x"], "no token in use is named 'x'; there are none"),
        (["--action", "list", "--name", "x"], "name: found with list; allowed with it: no other option"),
        (
            ["--action", "rotate", "--name", "x", "--scopes", "admin"],
            "scopes: found with rotate; allowed with it: expires-days, name, overlap-hours",
        ),
        (["--action", "create", "--name", "x", "--scopes", "write"], "scopes.0: found 'write'"),
        (["--action", "create", "--name", "x", "--scopes", "[]"], "scopes: found none; allowed: forecast, view, trade, admin"),
        (["--action", "create", "--name", "x", "--scopes", "admin", "--expires-days", "0"], "expires_days: found"),
        (["--action", "rotate", "--name", "x", "--overlap-hours", "-1"], "overlap_hours: found"),
        (["--action", "renew"], "action: found 'renew'"),
        (["--expire-days", "3"], "unknown option --expire-days; did you mean --expires-days?"),
    ],
)
def test_what_an_action_lacks_or_would_ignore_is_refused(
    url: str, options: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(url, *options) == 2

    said = capsys.readouterr()
    assert said.out == ""
    assert f"error: {problem}" in said.err
    assert list_tokens(open_database(url)) == []


def test_a_database_without_tables_is_refused_with_the_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"sqlite:///{tmp_path / 'typo.db'}", "--action", "list") == 2

    assert "python -m jobs.migrate" in capsys.readouterr().err
