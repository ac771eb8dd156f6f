"""An fxcast to back up, an empty one to restore into, and a place for backups."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.databases import new_database
from tests.integration.backed_up import Fxcast, filled, fxcast_in


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an fxcast with something in every table but Optuna's, a store and a model."""
    folder = tmp_path_factory.mktemp("example") / "here"
    filled(fxcast_in(folder))
    return folder


@pytest.fixture
def here(example: Path, tmp_path: Path) -> Fxcast:
    """The same, of a test's own."""
    folder = shutil.copytree(example, tmp_path / "here")
    return Fxcast(url=new_database("sqlite", folder), store=str(folder / "store"), models=folder / "models")


@pytest.fixture
def there(tmp_path: Path) -> Fxcast:
    return fxcast_in(tmp_path / "there")


@pytest.fixture
def to(tmp_path: Path) -> str:
    return str(tmp_path / "backups")
