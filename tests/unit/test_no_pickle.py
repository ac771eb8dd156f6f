"""Nothing that comes from outside can run as code: no place reads pickles, builds objects from YAML or hands text to a shell."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fxcast.errors import BadModelFolder
from fxcast.models.folder import from_pretrained, save_pretrained
from tests.model_factories import make_pipeline

_REPOSITORY = Path(__file__).resolve().parents[2]
_FOLDERS = ("platform", "actors", "jobs", "migrations", "release")

# Modules whose loaders run what they read, or parse XML with entities that reach for files.
_MODULES = {
    *("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "ray.cloudpickle", "joblib", "marshal", "shelve", "jsonpickle"),
    *("xml", "lxml", "xmlrpc", "code", "codeop"),
}
_CALLS = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "tempfile.mktemp"),
    *("pandas.read_pickle", "pd.read_pickle", "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"),
    *("importlib.import_module", "runpy.run_path", "runpy.run_module"),
    *("subprocess.getoutput", "subprocess.getstatusoutput"),
}
# Calls that are safe with a keyword of this value, and with nothing else.
_ONLY_WITH = {"torch.load": ("weights_only", True)}
# Keywords that make any call unsafe.
_NEVER = {"allow_pickle": True, "shell": True, "trust_remote_code": True, "weights_only": False, "use_safetensors": False}

# Places that do it all the same: file, what is found there, and why it is no door.
ALLOWED = {
    (
        "platform/fxcast/cluster/tune_search.py",
        "import of ray.cloudpickle",
    ): "Tune hands a trial's exception over only as a file in the driver's own folder of the trial",
    ("platform/fxcast/cluster/tune_search.py", "call of cloudpickle.loads"): "reads that file, which this cluster's trial wrote",
    (
        "platform/fxcast/signals/sources.py",
        "call of importlib.import_module",
    ): "a trader's own signal source, named in the settings by who runs the job; it must lie on that person's PYTHONPATH",
    (
        "platform/fxcast/web/forms.py",
        "call of yaml.load",
    ): "with a loader of its own, yaml's safe one without aliases",
    (
        "platform/fxcast/web/startable.py",
        "call of importlib.import_module",
    ): "the settings classes of our own jobs, whose names stand in that file; the page sends a kind, which must be one of them",
}


def findings(source: str) -> Iterator[str]:
    """Yield what a module does that could run what it reads."""
    names: dict[str, str] = {}  # local name → what it was imported as
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[(alias.asname or alias.name).partition(".")[0]] = alias.name if alias.asname else alias.name.partition(".")[0]
                if _is_banned(alias.name):
                    yield f"import of {alias.name}"
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                names[alias.asname or alias.name] = full
                if _is_banned(node.module) or _is_banned(full):
                    yield f"import of {full if _is_banned(full) and not _is_banned(node.module) else node.module}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from _call_findings(node, names)


def _is_banned(module: str) -> bool:
    parts = module.split(".")
    return any(".".join(parts[: length + 1]) in _MODULES for length in range(len(parts)))


def _call_findings(call: ast.Call, names: dict[str, str]) -> Iterator[str]:
    name = ast.unparse(call.func) if isinstance(call.func, ast.Name | ast.Attribute) else ""
    head, _, rest = name.partition(".")
    full = ".".join(part for part in (names.get(head, head), rest) if part)
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    if full == "importlib.import_module" and call.args and isinstance(call.args[0], ast.Constant):
        return  # as good as an import
    if full in _CALLS:
        yield f"call of {full}"
    elif _is_banned(full.rpartition(".")[0]):
        yield f"call of {name}"
    if full in _ONLY_WITH:
        keyword, value = _ONLY_WITH[full]
        if not _is(keywords.get(keyword), value=value):
            yield f"call of {full} without {keyword}={value}"
    for keyword, value in _NEVER.items():
        if keyword in keywords and not _is(keywords[keyword], value=not value):
            yield f"call of {full} with {keyword}={ast.unparse(keywords[keyword])}"


def _is(node: ast.expr | None, *, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_no_place_runs_what_it_reads_but_those_with_a_reason() -> None:
    found: set[tuple[str, str]] = set()
    for folder in _FOLDERS:
        for file in sorted((_REPOSITORY / folder).rglob("*.py")):
            found |= {(str(file.relative_to(_REPOSITORY)), finding) for finding in findings(file.read_text(encoding="utf-8"))}
    assert sorted(found - ALLOWED.keys()) == [], "mend it, or say in ALLOWED why it is no door"
    assert sorted(ALLOWED.keys() - found) == [], "no longer there: take it out of ALLOWED"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle", "import of pickle"),
        ("from pickle import loads", "import of pickle"),
        ("from ray import cloudpickle", "import of ray.cloudpickle"),
        ("import xml.etree.ElementTree as E", "import of xml.etree.ElementTree"),
        ("import torch\ntorch.load(path)", "call of torch.load without weights_only=True"),
        ("from torch import load\nload(path, weights_only=False)", "call of torch.load without weights_only=True"),
        ("import torch as t\nt.load(path, weights_only=flag)", "call of torch.load without weights_only=True"),
        ("import numpy as np\nnp.load(path, allow_pickle=True)", "call of numpy.load with allow_pickle=True"),
        ("import yaml\nyaml.load(text, Loader=yaml.Loader)", "call of yaml.load"),
        ("import pandas as pd\npd.read_pickle(path)", "call of pandas.read_pickle"),
        ("eval(text)", "call of eval"),
        ("import subprocess\nsubprocess.run(text, shell=True)", "call of subprocess.run with shell=True"),
        ("import tempfile\ntempfile.mktemp()", "call of tempfile.mktemp"),
        ("AutoModel.from_pretrained(x, trust_remote_code=True)", "call of AutoModel.from_pretrained with trust_remote_code=True"),
    ],
)
def test_each_way_in_is_found(source: str, found: str) -> None:
    assert found in list(findings(source))


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(path, weights_only=True)",
        "import yaml\nyaml.safe_load(text)",
        "import numpy as np\nnp.load(path)",
        "network.eval()",
        "import re\nre.compile('a')",
        "import importlib\nimportlib.import_module('fxcast')",
        "import subprocess\nsubprocess.run(['ls'])",
    ],
)
def test_what_is_safe_is_no_finding(source: str) -> None:
    assert list(findings(source)) == []


def test_model_folder_with_a_pickle_in_place_of_safetensors_is_refused_unread(tmp_path: Path) -> None:
    folder, trace = tmp_path / "model", tmp_path / "opened"
    save_pretrained(make_pipeline(), folder, card="# Card\n", fxcast_version="0.1.0")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)

    class Opens:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (trace,)

    for name in ("diffusion_pytorch_model.bin", "diffusion_pytorch_model.pt", "pytorch_model.bin"):
        torch.save({**state, "conv_in.bias": Opens()}, folder / "unet" / name)
    weights.unlink()
    with pytest.raises(BadModelFolder, match=r"missing unet/diffusion_pytorch_model\.safetensors"):
        from_pretrained(folder)

    torch.save({**state, "conv_in.bias": Opens()}, weights)  # a pickle under the right name
    with pytest.raises(BadModelFolder, match="'unet' can't be loaded"):
        from_pretrained(folder)
    assert not trace.exists(), "the pickle was opened"


def test_checkpoint_that_would_run_code_is_refused_by_torch(tmp_path: Path) -> None:
    trace = tmp_path / "opened"

    class Opens:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (trace,)

    torch.save({"model": Opens()}, tmp_path / "checkpoint.pt")
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert not trace.exists()
