"""A search space is checked before anything is searched, and travels through Optuna unchanged."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import ValidationError

from fxcast.config import JobSettings, Settings, explain, load_yaml
from fxcast.errors import BadSetting
from fxcast.trading.config import TradingConfig
from fxcast.trading.parameters import Value, Values, value_of, with_values
from fxcast.tuning.space import Level, ParameterRange, SearchSpace, level_of

ISSUE_SPACE = """
trading.ldm4ts_uncertainty_threshold: {low: 0.3, high: 0.7}
trading.ldm4ts_horizons: {choices: [[15, 60], [15, 60, 240], [60, 240]]}
trading.ldm4ts_min_strength: {low: 0.2, high: 0.5, step: 0.05}
trading.ldm4ts_num_samples: {choices: [30, 50, 100]}
"""
DEFAULTS: dict[str, Value] = {"trading.a": 0.5, "trading.bars": 4, "trading.on": True, "sampler.steps": 20, "training.rate": 1e-4}


class Holder(Settings):
    """Settings with a space in them, as a job has them."""

    space: Mapping[str, ParameterRange]


class HolderJob(JobSettings):
    """A job with a space."""

    space: Mapping[str, ParameterRange] = {}


def parse(text: str) -> Mapping[str, ParameterRange]:
    return Holder.model_validate({"space": yaml.safe_load(text)}).space


def default_of(path: str) -> Value:
    if path not in DEFAULTS:
        raise BadSetting(f"{path}: there is no such setting; did you mean trading.a?")
    return DEFAULTS[path]


def accept(values: Values) -> None:
    del values


def space_of(text: str, level: Level = Level.MODEL, check: Callable[[Values], None] = accept) -> SearchSpace:
    return SearchSpace.checked(parse(text), level=level, defaults=default_of, check=check)


def one(text: str) -> ParameterRange:
    return parse(f"trading.a: {text}")["trading.a"]


def refusal(content: object) -> str:
    with pytest.raises(ValidationError) as refused:
        Holder.model_validate({"space": content})
    return explain(refused.value, Holder)


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ("{low: 0.3, high: 0.7}", FloatDistribution(0.3, 0.7)),
        ("{low: 2, high: 8}", IntDistribution(2, 8)),
        ("{low: 2, high: 8, step: 3}", IntDistribution(2, 8, step=3)),
        ("{low: 2.0, high: 8.0, type: int}", IntDistribution(2, 8)),
        ("{low: 2, high: 8, type: float}", FloatDistribution(2.0, 8.0)),
        ("{low: 0, high: 1.5}", FloatDistribution(0.0, 1.5)),
        ("{low: 1, high: 64, log: true}", IntDistribution(1, 64, log=True)),
        ("{low: 1e-5, high: 1e-3, log: true}", FloatDistribution(1e-5, 1e-3, log=True)),  # which YAML 1.1 reads as text
        ("{low: 0.3, high: 0.7, step: 0.05}", FloatDistribution(0.3, 0.7, step=0.05)),
        ("{choices: [30, 50, 100]}", CategoricalDistribution([30, 50, 100])),
        ("{choices: [true, false]}", CategoricalDistribution([True, False])),
        ("{choices: [null, 1.5, kelly]}", CategoricalDistribution([None, 1.5, "kelly"])),
        ("{choices: [[15, 60], [15, 60, 240]]}", CategoricalDistribution(["[15, 60]", "[15, 60, 240]"])),
    ],
)
def test_a_range_in_yaml_is_the_distribution_it_says(text: str, distribution: optuna.distributions.BaseDistribution) -> None:
    assert SearchSpace(ranges=parse(f"trading.a: {text}")).distributions() == {"trading.a": distribution}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{low: 0.7, high: 0.3}", "empty: low 0.7 is not below high 0.3"),
        ("{low: 3, high: 3}", "empty: low 3 is not below high 3"),
        ("{choices: []}", "0 choices; allowed: two or more"),
        ("{choices: [30]}", "1 choices; allowed: two or more"),
        ("{choices: [30, 50, 30]}", "two equal choices, 30 and 30"),
        ("{choices: [1, true]}", "two equal choices, 1 and true"),
        ("{choices: [[15, 60], '[15, 60]']}", "two equal choices, [15, 60] and '[15, 60]'"),
        ("{choices: [[15, 60], [a, b]]}", "the choice ['a', 'b'] is none of"),
        ("{choices: [1, {a: 2}]}", "the choice {'a': 2} is none of"),
        ("{choices: [1.0, .nan]}", "the choice nan is not finite"),
        ("{choices: 30}", "choices: found 30: allowed: a list of choices"),
        ("{low: 0, high: 10, log: true}", "log with low 0; allowed: above 0"),
        ("{low: -1.0, high: 1.0, log: true}", "log with low -1.0; allowed: above 0"),
        ("{low: 0.3, high: 0.7, step: 0}", "step 0; allowed: above 0"),
        ("{low: 0.3, high: 0.7, step: -0.1}", "step -0.1; allowed: above 0"),
        ("{low: 0.3, high: 0.7, step: 0.5}", "step 0.5 is wider than the range, 0.3 to 0.7"),
        ("{low: 2, high: 8, step: 0.5}", "whole numbers with step 0.5; allowed: a whole step, or type: float"),
        ("{low: 0.3, high: 0.7, step: 0.15}", "high 0.7 is no whole number of steps of 0.15 above 0.3; the last below it is 0.6"),
        ("{low: 0.0, high: 1.0, step: 1.0e-9}", "step 1e-09 is finer than a millionth"),
        ("{low: 0.1, high: 0.7, log: true, step: 0.1}", "log together with step; allowed: one of them"),
        ("{low: 0.3}", "without high; allowed: {low"),
        ("{step: 0.3}", "without low and high"),
        ("{}", "without low and high"),
        ("{low: 0.3, high: 0.7, choices: [1, 2]}", "choices together with low and high"),
        ("{choices: [1, 2], log: true}", "choices together with log"),
        ("{choices: [1, 2], type: int}", "choices together with type"),
        ("{low: .nan, high: 0.7}", "low: found nan: allowed: a finite number"),
        ("{low: 0.1, high: .inf}", "high: found inf: allowed: a finite number"),
        ("{low: -1.7e+308, high: 1.7e+308}", "wider than a number can say"),
        ("{low: 0, high: 10000000000000000}", "allowed: whole numbers up to 9007199254740992"),
        ("{low: few, high: 8}", "low: found 'few': allowed: a number"),
        ("{low: true, high: 8}", "low: found True: allowed: a number"),
        ("{low: 0.5, high: 8, type: int}", "whole numbers with low 0.5; allowed: a whole number, or type: float"),
        ("{low: 1, high: 8, type: text}", "type: found 'text'"),
        ("{low: 1, hihg: 8}", "unknown key 'hihg'; did you mean 'high'?"),
        ("5", "found 5: allowed: {low: …, high: …}"),
        ("[1, 2]", "found [1, 2]: allowed: {low: …, high: …}"),
        ("null", "found None: allowed: {low: …, high: …}"),
    ],
)
def test_a_range_that_is_none_is_refused_by_name(text: str, problem: str) -> None:
    message = refusal(yaml.safe_load(f"trading.a: {text}"))
    assert message.startswith("space.trading.a")
    assert problem in message


def test_a_path_written_as_levels_is_explained() -> None:
    message = refusal({"trading": {"min_quality": {"low": 0.2, "high": 0.5}}})
    assert "space.trading: " in message
    assert "'min_quality' begins another level; write a parameter as one path" in message


@pytest.mark.parametrize("content", [5, "a", None, ["trading.a"]])
def test_a_space_that_is_no_mapping_is_refused_by_name(content: object) -> None:
    assert refusal(content).startswith(f"space: found {content!r}: ")


def test_a_job_reads_a_space_from_its_yaml_file_and_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    file = tmp_path / "tune.yaml"
    file.write_text(yaml.safe_dump({"space": yaml.safe_load(ISSUE_SPACE)}))
    assert HolderJob.parse(["--config", str(file)]).space == load_yaml(Holder, file).space == parse(ISSUE_SPACE)
    assert HolderJob.parse(["--space", '{"trading.a": {"low": 1, "high": 2}}']).space == parse("trading.a: {low: 1, high: 2}")
    file.write_text("space: {trading.a: {low: 3, high: 2}}")
    with pytest.raises(BadSetting, match=r"space\.trading\.a: found .*: empty: low 3 is not below high 2"):
        HolderJob.parse(["--config", str(file)])


@pytest.mark.parametrize(
    ("path", "level"),
    [
        ("trading.min_quality", Level.TRADING),
        ("trading.quality.weights.timing", Level.TRADING),
        ("sampler.steps", Level.SAMPLING),
        ("training.learning_rate", Level.MODEL),
        ("model.unet_channels", Level.MODEL),
    ],
)
def test_a_path_says_which_level_it_needs(path: str, level: Level) -> None:
    assert level_of(path) is level


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("tradign.min_quality", r"did you mean trading\.min_quality\?"),
        ("sampler.stpes", r"did you mean sampler\.steps\?"),
        ("trianing.rate", r"did you mean training\.rate\?"),
        ("trading", r"did you mean trading\.…\?"),
        ("trading.", r"did you mean trading\.…\?"),
        ("sampler.steps.more", r"did you mean sampler\.steps\?"),
        ("zzz", r"unknown parameter; allowed: trading"),
        ("", r"unknown parameter; allowed: trading"),
    ],
)
def test_a_path_of_no_level_is_refused_with_the_nearest(path: str, hint: str) -> None:
    with pytest.raises(BadSetting, match=hint):
        level_of(path)


def test_a_level_takes_its_own_parameters_and_cheaper_ones() -> None:
    text = "{trading.a: {low: 0.3, high: 0.7}, sampler.steps: {low: 10, high: 50}}"
    assert list(space_of(text, Level.SAMPLING).ranges) == list(space_of(text, Level.MODEL).ranges) == ["trading.a", "sampler.steps"]
    with pytest.raises(BadSetting) as refused:
        space_of(text, Level.TRADING)
    assert str(refused.value) == "space.sampler.steps: needs level sampling, found trading"


def test_a_space_without_parameters_is_refused() -> None:
    with pytest.raises(BadSetting, match="space: found no parameter; allowed: at least one"):
        space_of("{}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("trading.a: {low: 0.6, high: 0.7}", "space.trading.a: the default, 0.5, is not in 0.6 to 0.7"),
        ("trading.a: {low: 0.2, high: 0.8, step: 0.2}", "space.trading.a: the default, 0.5, is not in 0.2 to 0.8 in steps of 0.2"),
        ("trading.bars: {low: 1, high: 7, step: 2}", "space.trading.bars: the default, 4, is not in 1 to 7 in steps of 2"),
        ("trading.bars: {choices: [5, 6]}", "space.trading.bars: the default, 4, is not in 5 | 6"),
        ("trading.on: {low: 0, high: 2}", "space.trading.on: the default, true, is not in 0 to 2"),
        ("trading.on: {choices: [0, 1]}", "space.trading.on: the default, true, is not in 0 | 1"),
        (
            "trading.a: {low: 0, high: 1}",
            "space.trading.a: whole numbers, 0 to 1, the default is 0.5; write low: 0.0, or type: int",
        ),
        ("trading.b: {low: 0, high: 1}", "space.trading.b: there is no such setting; did you mean trading.a?"),
    ],
)
def test_a_default_outside_its_range_and_an_unknown_setting_are_refused_by_name(text: str, problem: str) -> None:
    with pytest.raises(BadSetting) as refused:
        space_of(text)
    assert str(refused.value) == problem


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(BadSetting, match=r"^space\.trading\.a: .*; space\.trading\.b: .*$"):
        space_of("{trading.a: {low: 0.6, high: 0.7}, trading.bars: {low: 1, high: 9}, trading.b: {low: 0, high: 1}}")


@pytest.mark.parametrize(
    ("text", "wrong"), [("{low: 0.4, high: 1.2}", 1.2), ("{low: -0.1, high: 1.0}", -0.1), ("{choices: [0.5, 3, 0.7]}", 3)]
)
def test_an_end_or_a_choice_that_the_settings_refuse_is_named(text: str, wrong: float) -> None:
    def check(values: Values) -> None:
        if not 0 <= values["trading.a"] <= 1:  # pyright: ignore[reportOperatorIssue]  # a number in this test
            raise BadSetting(f"a: found {values['trading.a']}; allowed: 0 to 1")  # within its group, as trading settings say it

    with pytest.raises(BadSetting) as refused:
        space_of(f"trading.a: {text}", check=check)
    assert str(refused.value) == f"space.trading.a: {wrong} is refused: found {wrong}; allowed: 0 to 1"


def test_the_real_settings_take_the_space_of_the_issue_and_name_what_they_refuse() -> None:
    trading = TradingConfig()

    def bare(path: str) -> str:
        return path.removeprefix("trading.")

    def check(values: Values) -> None:
        with_values(trading, {bare(path): value for path, value in values.items()})

    def checked(text: str) -> SearchSpace:
        return SearchSpace.checked(
            parse(text), level=Level.TRADING, defaults=lambda path: value_of(trading, bare(path)), check=check
        )

    space = checked(ISSUE_SPACE)
    values = space.decode(space.encode({path: value_of(trading, bare(path)) for path in space.ranges}))
    assert with_values(trading, {bare(path): value for path, value in values.items()}) == trading
    for path, value in space.neighbours(values):
        assert value_of(with_values(trading, {bare(path): value}), bare(path)) == value

    for text, problem in {
        "trading.ldm4ts_min_strenght: {low: 0.2, high: 0.5}": r"did you mean 'ldm4ts_min_strength'",
        "trading.ldm4ts_min_strength: {low: 0.2, high: 1.5}": r"^space\.trading\.ldm4ts_min_strength: 1\.5 is refused: found 1\.5",
        "trading.ldm4ts_num_samples: {low: 1, high: 100}": r"^space\.trading\.ldm4ts_num_samples: 1 is refused: ",
        "trading.ldm4ts_horizons: {choices: [[15, 60, 240], [60, 15]]}": r"\[60, 15\] is refused: .*must ascend",
        "trading.management.exit_uncertainty_pct: {low: 0.2, high: 0.5}": r"default, null, .*; one that may be null needs choices",
        "trading.use_trend: {choices: [true, 'sometimes']}": r"'sometimes' is refused",
    }.items():
        with pytest.raises(BadSetting, match=problem):
            checked(text)


def test_numbers_between_whole_ends_are_refused_where_a_setting_takes_whole_ones_only() -> None:
    def check(values: Values) -> None:
        with_values(TradingConfig(), {"ldm4ts_num_samples": values["trading.bars"]})

    def whole_ends(values: Values) -> None:
        if not float(values["trading.bars"]).is_integer():  # pyright: ignore[reportArgumentType]  # a number in this test
            raise BadSetting("trading.bars: allowed: a whole number")

    with pytest.raises(BadSetting, match=r"^space\.trading\.bars: 4\..* is refused: allowed: a whole number"):
        space_of("trading.bars: {low: 2.0, high: 8.0}", check=whole_ends)
    with pytest.raises(BadSetting, match=r"^space\.trading\.bars: 2\.0 is refused"):
        space_of("trading.bars: {low: 2.0, high: 8.0}", check=check)
    assert space_of("trading.bars: {low: 2, high: 8}", check=check).ranges["trading.bars"].whole


VALUES: dict[str, Value] = {"trading.a": 0.5, "trading.bars": 4, "trading.set": (15, 60), "trading.on": True}
SPACE = SearchSpace(
    ranges=parse(
        "{trading.a: {low: 0.3, high: 0.7}, trading.bars: {low: 2, high: 8},"
        " trading.set: {choices: [[15], [15, 60], [60, 240]]}, trading.on: {choices: [true, false]}}"
    )
)


def test_values_travel_through_optunas_storage_and_back(tmp_path: Path) -> None:
    study = optuna.create_study(storage=f"sqlite:///{tmp_path / 'study.db'}", sampler=optuna.samplers.RandomSampler(seed=1))
    study.enqueue_trial(SPACE.encode(VALUES))
    for _ in range(5):
        study.tell(study.ask(SPACE.distributions()), 1.0)
    first, *others = optuna.load_study(study_name=study.study_name, storage=f"sqlite:///{tmp_path / 'study.db'}").trials
    assert SPACE.decode(first.params) == VALUES
    assert first.params["trading.set"] == "[15, 60]"
    for trial in others:
        assert SPACE.encode(SPACE.decode(trial.params)) == trial.params


@pytest.mark.parametrize("text", ["{low: 0.3, high: 0.7}", "{low: 0.3, high: 0.7, step: 0.1}", "{low: 1, high: 8}"])
@pytest.mark.parametrize("found", [float("nan"), float("inf"), -float("inf"), 0.29, 8.1, "0.5", True, None])
def test_what_no_sampler_of_the_range_draws_is_refused(text: str, found: object) -> None:
    with pytest.raises(BadSetting, match=r"^trading\.a: found .*; allowed: "):
        SearchSpace(ranges=parse(f"trading.a: {text}")).decode({"trading.a": found})


def test_a_samplers_rounding_over_an_end_is_undone() -> None:
    assert one("{low: 0.3, high: 0.7}").decode(0.7 + 1e-15) == 0.7
    assert one("{low: 1.0e-5, high: 1.0e-3, log: true}").decode(1e-5 - 1e-20) == 1e-5


def test_a_grid_adds_up_as_decimals_do() -> None:
    grid = one("{low: 0.3, high: 0.7, step: 0.1}")
    drawn = 0.1 * 3 + 0.3  # 0.6000000000000001, as a sampler reckons
    assert drawn != 0.6
    assert grid.decode(drawn) == 0.6
    assert [grid.decode(0.3 + steps * 0.1) for steps in range(5)] == [0.3, 0.4, 0.5, 0.6, 0.7]


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"trading.a": 0.71}, "trading.a: found 0.71; allowed: 0.3 to 0.7"),
        ({"trading.a": float("nan")}, "trading.a: found nan; allowed: 0.3 to 0.7"),
        ({"trading.a": float("inf")}, "trading.a: found inf; allowed: 0.3 to 0.7"),
        ({"trading.a": None}, "trading.a: found None; allowed: 0.3 to 0.7"),
        ({"trading.a": "0.5"}, "trading.a: found '0.5'; allowed: 0.3 to 0.7"),
        ({"trading.bars": 2.5}, "trading.bars: found 2.5; allowed: 2 to 8"),
        ({"trading.bars": True}, "trading.bars: found True; allowed: 2 to 8"),
        ({"trading.set": (15, 240)}, "trading.set: found (15, 240); allowed: [15] | [15, 60] | [60, 240]"),
        ({"trading.b": 1}, "trading.b: no parameter of the search; did you mean trading.a?"),
    ],
)
def test_values_that_are_none_of_the_space_are_refused_by_name(changed: dict[str, Value], problem: str) -> None:
    for refuse in (SPACE.encode, SPACE.neighbours):
        with pytest.raises(BadSetting) as refused:
            refuse({**VALUES, **changed})
        assert str(refused.value) == problem


def test_parameters_of_another_study_are_refused_by_name() -> None:
    for changed, problem in (
        ({"trading.set": "[1, 2]"}, "trading.set: found '[1, 2]'"),
        ({"trading.bars": 9}, "trading.bars: found 9"),
    ):
        with pytest.raises(BadSetting) as refused:
            SPACE.decode({**SPACE.encode(VALUES), **changed})
        assert str(refused.value).startswith(problem)
    with pytest.raises(BadSetting, match=r"^trading\.a: missing; allowed: 0\.3 to 0\.7$"):
        SPACE.decode({})
    with pytest.raises(BadSetting, match=r"^trading\.a: missing; allowed: 0\.3 to 0\.7$"):
        SPACE.encode({})


def test_a_neighbour_moves_one_parameter_a_tenth_or_to_the_choice_beside() -> None:
    assert SPACE.neighbours(VALUES) == (
        ("trading.a", 0.45),
        ("trading.a", 0.55),
        ("trading.bars", 3),  # a tenth of 4 is less than one
        ("trading.bars", 5),
        ("trading.set", (15,)),
        ("trading.set", (60, 240)),
        ("trading.on", False),
    )


def test_content_is_the_same_however_a_space_was_written_and_another_for_another_space() -> None:
    def content(text: str) -> str:
        return json.dumps(SearchSpace(ranges=parse(text)).content)

    written = content("{trading.a: {low: 1.0, high: 2.0}, trading.b: {choices: [[15, 60], null]}}")
    assert content("{trading.b: {choices: [[15, 60], null]}, trading.a: {low: 1, high: 2, type: float, step: null}}") == written
    assert content("{trading.b: {choices: [null, [15, 60]]}, trading.a: {low: 1.0, high: 2.0}}") != written
    assert content("{trading.a: {low: 1, high: 2}, trading.b: {choices: [[15, 60], null]}}") != written
    again = parse(written)  # JSON is YAML
    assert SearchSpace(ranges=again).content == json.loads(written)


def test_a_space_pickles_for_a_trial_on_another_node() -> None:
    assert pickle.loads(pickle.dumps(SPACE)) == SPACE  # noqa: S301  # our own value, as Ray sends it
