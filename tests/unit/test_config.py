"""Settings: precedence, and mistakes named with the nearest known key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from fxcast.config import JobSettings, Settings, load_yaml
from fxcast.errors import BadSetting
from jobs.ingest import IngestJob

ROOT = Path(__file__).parents[2]


class Limits(Settings):
    lots: float = Field(default=1.0, gt=0, description="most lots")
    spread_pips: float = Field(default=2.0, description="widest spread")


class TradeJob(JobSettings):
    """Trade."""

    symbol: str = Field(default="EURUSD", description="pair")
    dry_run: bool = Field(default=False, description="send nothing")
    horizons: tuple[int, ...] = Field(default=(15, 60), description="minutes")
    limits: Limits = Limits()


@pytest.fixture
def yaml_file(tmp_path: Path) -> Path:
    return tmp_path / "job.yaml"


def parse_with(yaml_file: Path, content: str, *options: str) -> TradeJob:
    yaml_file.write_text(content, encoding="utf-8")
    return TradeJob.parse(["--config", str(yaml_file), *options])


def test_defaults_hold_when_nothing_is_given() -> None:
    job = TradeJob.parse([])
    assert type(job) is TradeJob
    assert job == TradeJob()


def test_the_command_line_outweighs_the_environment_outweighs_the_file(yaml_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = "symbol: GBPUSD\nhorizons: [5]\nlimits: {lots: 3, spread_pips: 4}"
    assert parse_with(yaml_file, content).limits == Limits(lots=3, spread_pips=4)
    monkeypatch.setenv("FXCAST_SYMBOL", "USDJPY")
    monkeypatch.setenv("FXCAST_LIMITS__LOTS", "7")
    job = parse_with(yaml_file, content)
    assert (job.symbol, job.horizons, job.limits) == ("USDJPY", (5,), Limits(lots=7, spread_pips=4))
    job = parse_with(yaml_file, content, "--symbol", "AUDUSD", "--limits.lots", "9", "--dry-run")
    assert (job.symbol, job.dry_run, job.limits) == ("AUDUSD", True, Limits(lots=9, spread_pips=4))


def test_options_on_either_side_of_the_config_file_count(yaml_file: Path) -> None:
    yaml_file.write_text("dry_run: true")
    job = TradeJob.parse(["--symbol", "GBPUSD", f"--config={yaml_file}", "--horizons", "5,30"])
    assert (job.symbol, job.dry_run, job.horizons) == ("GBPUSD", True, (5, 30))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("sybmol: GBPUSD", "unknown key 'sybmol'; did you mean 'symbol'?"),
        ("limits: {spread: 1}", "unknown key 'limits.spread'; did you mean 'spread_pips'?"),
        ("zzz: 1", "unknown key 'zzz'$"),
        ("limits: {lots: many}", "limits.lots: found 'many'"),
        ("limits: {lots: -1}", "limits.lots: found -1: Input should be greater than 0"),
        ("- symbol", "expected keys and values, found list"),
        ("1: 2", "expected names as keys, found 1"),
        ("symbol: [", "not YAML"),
    ],
)
def test_a_mistake_in_the_file_is_named(yaml_file: Path, content: str, message: str) -> None:
    with pytest.raises(BadSetting, match=message.replace("?", r"\?")) as caught:
        parse_with(yaml_file, content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sybmol", "GBPUSD"], "unknown option --sybmol; did you mean --symbol?"),
        (["--sybmol=GBPUSD"], "unknown option --sybmol; did you mean --symbol?"),
        (["--dry_run"], "unknown option --dry_run; did you mean --dry-run?"),
        (["--limits.lot", "1"], "unknown option --limits.lot; did you mean --limits.lots?"),
        (["--limits.lots", "many"], "limits.lots: found 'many'"),
        (["--symbol"], "argument --symbol: expected one argument"),
        (["stray"], "unrecognized arguments: stray"),
        (["--config"], "--config needs the name of a YAML file"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: there is no such file"),
    ],
)
def test_a_mistake_on_the_command_line_is_named(options: list[str], message: str) -> None:
    with pytest.raises(BadSetting) as caught:
        TradeJob.parse(options)
    assert str(caught.value).startswith(message)


def test_a_mistake_in_a_nested_environment_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FXCAST_LIMITS__LOT", "1")
    with pytest.raises(BadSetting, match=r"unknown key 'limits\.lot'; did you mean 'lots'\?"):
        TradeJob.parse([])


def test_a_file_that_is_no_text_is_refused(yaml_file: Path) -> None:
    yaml_file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadSetting, match="not YAML"):
        TradeJob.parse(["--config", str(yaml_file)])


def test_an_empty_file_changes_nothing(yaml_file: Path) -> None:
    assert parse_with(yaml_file, "# nothing\n") == TradeJob()


def test_settings_are_frozen() -> None:
    job = TradeJob.parse(["--symbol", "GBPUSD"])
    with pytest.raises(ValidationError, match="frozen"):
        job.symbol = "EURUSD"  # pyright: ignore[reportAttributeAccessIssue] (what is tested)
    with pytest.raises(ValidationError, match="frozen"):
        job.limits.lots = 2.0  # pyright: ignore[reportAttributeAccessIssue] (what is tested)


def test_one_component_loads_from_its_own_file(yaml_file: Path) -> None:
    yaml_file.write_text("lots: 2.5")
    assert load_yaml(Limits, yaml_file) == Limits(lots=2.5)
    yaml_file.write_text("lost: 2.5")
    with pytest.raises(BadSetting, match="unknown key 'lost'; did you mean 'lots'"):
        load_yaml(Limits, yaml_file)
    with pytest.raises(BadSetting, match="there is no such file"):
        load_yaml(Limits, yaml_file.with_name("nowhere.yaml"))


def test_the_example_for_ingest_states_the_defaults() -> None:
    assert IngestJob.parse(["--config", str(ROOT / "configs" / "ingest.yaml")]) == IngestJob.parse([])


def test_help_names_the_program_every_option_and_its_default() -> None:
    answer = subprocess.run([sys.executable, "-m", "jobs.ingest", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.startswith("usage: python -m jobs.ingest")
    for part in ("--config FILE", "--source", "--day-first, --no-day-first", "(default: runs/store)"):
        assert part in answer.stdout


def test_a_refusal_is_one_sentence_on_stderr_and_exit_code_two() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "jobs.ingest", "--stroe", "x"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr == "error: unknown option --stroe; did you mean --store?\n"


class _Inner(Settings):
    steps: int = 10
    batch_size: int = 20


class _JobWithOwnDefaults(JobSettings):
    """A job whose nested settings have defaults of their own."""

    training: _Inner = _Inner(batch_size=99)


def test_overriding_one_nested_setting_keeps_the_jobs_defaults_of_the_others() -> None:
    assert _JobWithOwnDefaults.parse(["--training.steps", "5"]).training == _Inner(steps=5, batch_size=99)
