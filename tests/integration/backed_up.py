"""A whole fxcast to back up, and an empty one to restore into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jobs.backup
import jobs.restore
from fxcast.adapters.storage.backup_files import Place
from fxcast.adapters.storage.backup_manifest import MANIFEST, Manifest, read_manifest
from fxcast.adapters.storage.database import migrate, open_database
from fxcast.data.store import CandleStore
from tests.databases import new_database
from tests.factories import make_series
from tests.integration.filled_database import fill_database, study


@dataclass(frozen=True)
class Fxcast:
    """Where everything of one fxcast lies."""

    url: str
    store: str
    models: Path

    @property
    def options(self) -> list[str]:
        return ["--database-url", self.url, "--store", self.store, "--models", str(self.models)]


def fxcast_in(folder: Path, kind: str = "sqlite", store: str | None = None) -> Fxcast:
    """An fxcast that is not there yet."""
    folder.mkdir()
    return Fxcast(url=new_database(kind, folder), store=store or str(folder / "store"), models=folder / "models")


def filled(fxcast: Fxcast, *, studies: bool = False) -> Fxcast:
    migrate(fxcast.url)
    database = open_database(fxcast.url)
    fill_database(database, models=fxcast.models)
    database.dispose()
    if studies:
        study(fxcast.url)
    CandleStore(fxcast.store).append(make_series(bars=1500))
    (fxcast.models / "tiny-2" / "unet").mkdir(parents=True)
    (fxcast.models / "tiny-2" / "model_index.json").write_text('{"preset": "tiny"}')
    (fxcast.models / "tiny-2" / "unet" / "weights.safetensors").write_bytes(bytes(range(256)) * 100)
    return fxcast


def back_up(fxcast: Fxcast, to: str) -> str:
    """Run the job, and return the backup's name."""
    before = set(Place(to, "backup").folders())
    assert jobs.backup.main(["--to", to, *fxcast.options]) == 0
    (name,) = set(Place(to, "backup").folders()) - before - {"objects"}
    return name


def restore(fxcast: Fxcast, source: str, *options: str) -> int:
    return jobs.restore.main(["--from", source, *fxcast.options, *options])


def files_of(root: str) -> dict[str, bytes | None]:
    place = Place(root, "files")
    return {name: place.read(name) for name in place.files()}


def forge(to: str, name: str, change: Callable[[Manifest], Manifest]) -> None:
    manifest = change(read_manifest(Place(to, "backup"), name))
    Path(to, name, MANIFEST).write_text(manifest.sealed().model_dump_json())
