"""Tokens in the database: their secrets are not in it, and a rotation leaves no moment without a valid one."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from fxcast.adapters.storage.access_tokens import (
    MAX_LIFETIME,
    AccessToken,
    Scope,
    create_token,
    list_tokens,
    revoke_token,
    rotate_token,
    token_hash,
    valid_tokens,
)
from fxcast.adapters.storage.database import migrate, open_database
from fxcast.errors import BadSetting

NOON = datetime(2024, 3, 4, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
def database(tmp_path: Path) -> Engine:
    url = f"sqlite:///{tmp_path / 'fx.db'}"
    migrate(url)
    return open_database(url)


def create(database: Engine, name: str = "engine", *, lifetime: timedelta | None = None) -> str:
    return create_token(database, name=name, scopes=[Scope.FORECAST], now=NOON, lifetime=lifetime)


def names_of(database: Engine, secrets: list[str], now: datetime) -> list[str | None]:
    """Return the name that each secret stands for at a time, None where it is not valid."""
    valid = valid_tokens(database, now)
    return [valid[token_hash(secret)].name if token_hash(secret) in valid else None for secret in secrets]


def test_a_created_token_is_read_with_its_scopes_and_expiry(database: Engine) -> None:
    secret = create_token(database, name="engine", scopes=[Scope.FORECAST, Scope.ADMIN], now=NOON, lifetime=DAY)

    expected = AccessToken(
        name="engine",
        last_four=secret[-4:],
        scopes=("admin", "forecast"),
        created_at=NOON,
        expires_at=NOON + DAY,
        replaced_at=None,
        revoked_at=None,
    )
    assert valid_tokens(database, NOON) == {token_hash(secret): expected}
    assert list_tokens(database) == [expected]


def test_secrets_are_long_recognisable_and_differ(database: Engine) -> None:
    first, second = create(database, "a"), create(database, "b")

    assert first != second
    assert first.startswith("fxc_")
    assert len(first) == len("fxc_") + 43  # 256 bits, six to a character


def test_no_file_of_the_database_holds_a_secret(database: Engine, tmp_path: Path) -> None:
    secret = create(database)
    database.dispose()

    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert token_hash(secret).encode() in written
    assert secret[:-4].encode() not in written
    assert secret.removeprefix("fxc_")[:-4].encode() not in written


def test_a_token_is_valid_until_its_expiry_and_not_at_it(database: Engine) -> None:
    secret = create(database, lifetime=HOUR)

    assert names_of(database, [secret], NOON + HOUR - timedelta(microseconds=1)) == ["engine"]
    assert names_of(database, [secret], NOON + HOUR) == [None]


def test_after_a_rotation_both_secrets_are_valid_for_the_overlap(database: Engine) -> None:
    old = create(database)
    new = rotate_token(database, name="engine", overlap=2 * HOUR, now=NOON + HOUR)

    assert names_of(database, [old, new], NOON + HOUR) == ["engine", "engine"]
    assert names_of(database, [old, new], NOON + 3 * HOUR) == [None, "engine"]
    current, replaced = list_tokens(database)
    assert (current.last_four, current.scopes, current.replaced_at) == (new[-4:], ("forecast",), None)
    assert (replaced.last_four, replaced.replaced_at) == (old[-4:], NOON + HOUR)


def test_an_overlap_of_zero_ends_the_old_secret_at_once(database: Engine) -> None:
    old = create(database)
    new = rotate_token(database, name="engine", overlap=timedelta(0), now=NOON)

    assert names_of(database, [old, new], NOON) == [None, "engine"]


def test_a_rotation_never_lengthens_the_life_of_the_old_secret(database: Engine) -> None:
    old = create(database, lifetime=HOUR)
    rotate_token(database, name="engine", overlap=DAY, now=NOON)

    assert names_of(database, [old], NOON + HOUR) == [None]


def test_a_second_rotation_leaves_the_overlap_of_the_first_alone(database: Engine) -> None:
    secrets = [create(database)]
    secrets.append(rotate_token(database, name="engine", overlap=2 * HOUR, now=NOON))
    secrets.append(rotate_token(database, name="engine", overlap=4 * HOUR, now=NOON + HOUR))

    assert names_of(database, secrets, NOON + HOUR) == ["engine"] * 3
    assert names_of(database, secrets, NOON + 2 * HOUR) == [None, "engine", "engine"]
    assert names_of(database, secrets, NOON + 5 * HOUR) == [None, None, "engine"]


def test_a_new_secret_lives_as_long_as_the_old_one_was_made_for(database: Engine) -> None:
    create(database, lifetime=3 * DAY)
    rotate_token(database, name="engine", overlap=HOUR, now=NOON + 2 * DAY)
    assert list_tokens(database)[0].expires_at == NOON + 5 * DAY

    rotate_token(database, name="engine", overlap=HOUR, now=NOON + 3 * DAY, lifetime=DAY)
    assert list_tokens(database)[0].expires_at == NOON + 4 * DAY


def test_an_expired_token_can_be_rotated_and_its_old_secret_stays_expired(database: Engine) -> None:
    old = create(database, lifetime=HOUR)
    new = rotate_token(database, name="engine", overlap=DAY, now=NOON + 2 * HOUR)

    assert names_of(database, [old, new], NOON + 2 * HOUR) == [None, "engine"]


def test_revoking_ends_the_replaced_secrets_too_and_frees_the_name(database: Engine) -> None:
    secrets = [create(database), create(database, "other")]
    secrets.append(rotate_token(database, name="engine", overlap=DAY, now=NOON))

    assert revoke_token(database, name="engine", now=NOON + HOUR) == 2
    assert names_of(database, secrets, NOON + HOUR) == [None, "other", None]

    again = create(database)
    assert names_of(database, [again], NOON + HOUR) == ["engine"]
    assert [token.name for token in list_tokens(database)] == ["engine", "engine", "engine", "other"]


def test_a_taken_name_is_refused_even_if_its_token_expired(database: Engine) -> None:
    create(database, lifetime=HOUR)

    with pytest.raises(BadSetting, match="name: 'engine' is taken; rotate the token of that name, or revoke it first"):
        create(database)
    assert len(list_tokens(database)) == 1


def test_a_name_that_is_not_in_use_is_refused_with_those_that_are(database: Engine) -> None:
    create(database, "b")
    create(database, "a")
    create(database, "gone")
    revoke_token(database, name="gone", now=NOON)

    for name in ("gone", "typo"):
        with pytest.raises(BadSetting, match=f"no token in use is named '{name}'; there are a, b"):
            rotate_token(database, name=name, overlap=HOUR, now=NOON)
        with pytest.raises(BadSetting, match=f"no token in use is named '{name}'; there are a, b"):
            revoke_token(database, name=name, now=NOON)


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "engine\n", "naïve"])
def test_a_name_that_logs_could_not_show_is_refused(database: Engine, name: str) -> None:
    with pytest.raises(BadSetting, match=r"name: found .* allowed: 1 to 64 letters"):
        create(database, name)


@pytest.mark.parametrize("lifetime", [timedelta(0), -HOUR, MAX_LIFETIME + HOUR])
def test_a_lifetime_out_of_range_is_refused(database: Engine, lifetime: timedelta) -> None:
    with pytest.raises(BadSetting, match="lifetime: found"):
        create(database, lifetime=lifetime)
    create(database)
    with pytest.raises(BadSetting, match="lifetime: found"):
        rotate_token(database, name="engine", overlap=HOUR, now=NOON, lifetime=lifetime)


@pytest.mark.parametrize("overlap", [-HOUR, MAX_LIFETIME + HOUR])
def test_an_overlap_out_of_range_is_refused_and_rotates_nothing(database: Engine, overlap: timedelta) -> None:
    secret = create(database)

    with pytest.raises(BadSetting, match="overlap: found"):
        rotate_token(database, name="engine", overlap=overlap, now=NOON)
    assert names_of(database, [secret], NOON + DAY) == ["engine"]


def test_a_token_for_nothing_is_refused(database: Engine) -> None:
    with pytest.raises(BadSetting, match="scopes: found none; allowed: forecast, view, trade, admin"):
        create_token(database, name="engine", scopes=[], now=NOON)


def test_of_many_that_create_one_name_at_once_one_succeeds(database: Engine) -> None:
    outcomes: list[str] = []
    start = threading.Barrier(4)

    def try_it() -> None:
        start.wait()
        try:
            outcomes.append(create(database))
        except BadSetting:
            outcomes.append("taken")

    threads = [threading.Thread(target=try_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert outcomes.count("taken") == 3
    assert len(valid_tokens(database, NOON)) == 1


def test_a_scope_of_a_newer_version_hinders_no_reading(database: Engine) -> None:
    secret = create(database)
    with database.begin() as connection:
        connection.execute(text("UPDATE access_tokens SET scopes = :scopes"), {"scopes": '["forecast", "trade"]'})

    assert valid_tokens(database, NOON)[token_hash(secret)].scopes == ("forecast", "trade")
