"""Whatever the range: its values survive Optuna, its samples are values of it, and so are the neighbours of a value."""

from __future__ import annotations

from decimal import Decimal

import optuna
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution

from fxcast.trading.parameters import Value
from fxcast.tuning.space import ParameterRange, SearchSpace

NUMBERS = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)
WHOLE = st.integers(-(2**53), 2**53)
SCALARS = st.none() | st.booleans() | st.integers() | NUMBERS | st.text()
CHOICES = SCALARS | st.lists(st.integers(), max_size=4).map(tuple)


def _as_optuna_has_it(choice: Value) -> object:
    return str(list(choice)) if isinstance(choice, tuple) else choice


@st.composite
def floats_in_a_range(draw: st.DrawFn) -> tuple[ParameterRange, Value]:
    log = draw(st.booleans())
    numbers = st.floats(1e-300, 1e300) if log else NUMBERS
    low, high = sorted(draw(st.lists(numbers, min_size=2, max_size=2, unique=True)))
    return ParameterRange(low=low, high=high, log=log, type="float"), draw(st.floats(low, high))


@st.composite
def floats_on_a_grid(draw: st.DrawFn) -> tuple[ParameterRange, Value]:
    step = Decimal(draw(st.integers(1, 999))).scaleb(draw(st.integers(-6, 3)))
    low, steps = step * draw(st.integers(-1000, 1000)) + Decimal("0.25") * draw(st.integers(0, 1)), draw(st.integers(1, 1000))
    high, value = low + steps * step, low + draw(st.integers(0, steps)) * step
    return ParameterRange(low=float(low), high=float(high), step=float(step)), float(value)


@st.composite
def whole_numbers_in_a_range(draw: st.DrawFn) -> tuple[ParameterRange, Value]:
    low, high = sorted(draw(st.lists(WHOLE, min_size=2, max_size=2, unique=True)))
    log = draw(st.booleans()) and low > 0
    return ParameterRange(low=low, high=high, log=log), draw(st.integers(low, high))


@st.composite
def whole_numbers_on_a_grid(draw: st.DrawFn) -> tuple[ParameterRange, Value]:
    low, step, steps = draw(st.integers(-10_000, 10_000)), draw(st.integers(1, 500)), draw(st.integers(1, 1000))
    return ParameterRange(low=low, high=low + steps * step, step=step), low + draw(st.integers(0, steps)) * step


@st.composite
def choices_in_a_list(draw: st.DrawFn) -> tuple[ParameterRange, Value]:
    choices = draw(st.lists(CHOICES, min_size=2, max_size=6, unique_by=_as_optuna_has_it))
    return ParameterRange(choices=tuple(choices)), draw(st.sampled_from(choices))


@st.composite
def spaces(draw: st.DrawFn) -> tuple[SearchSpace, dict[str, Value]]:
    kinds = floats_in_a_range() | floats_on_a_grid() | whole_numbers_in_a_range() | whole_numbers_on_a_grid() | choices_in_a_list()
    drawn = draw(st.lists(kinds, min_size=1, max_size=4))
    ranges = {f"trading.p{place}": each for place, (each, _) in enumerate(drawn)}
    return SearchSpace(ranges=ranges), {f"trading.p{place}": value for place, (_, value) in enumerate(drawn)}


@given(spaces())
def test_values_come_back_from_optuna_exactly(drawn: tuple[SearchSpace, dict[str, Value]]) -> None:
    space, values = drawn
    params = space.encode(values)
    for path, distribution in space.distributions().items():
        inside = distribution.to_internal_repr(params[path])
        assert distribution._contains(inside)  # pyright: ignore[reportPrivateUsage]  # what Optuna refuses a trial by
        back = distribution.to_external_repr(inside)
        assert back == params[path]
        assert type(back) is type(params[path])
    decoded = space.decode(params)
    assert decoded == values
    assert [type(each) for each in decoded.values()] == [type(each) for each in values.values()]


@given(spaces(), st.floats(0.001, 2))
def test_neighbours_are_other_values_of_the_range_and_differ_in_one_parameter(
    drawn: tuple[SearchSpace, dict[str, Value]], share: float
) -> None:
    space, values = drawn
    for path, near in space.neighbours(values, share):
        assert near != values[path]
        assert type(near) is type(values[path]) or space.ranges[path].choices is not None
        assert space.ranges[path].contains(near)
        space.encode({**values, path: near})
    for path, each in space.ranges.items():
        beside = each.neighbours(values[path], share)
        assert len(beside) <= 2
        assert len(set(beside)) == len(beside)
        if each.whole or each.step is not None or each.choices is not None:
            assert beside  # there is another step or choice on at least one side


@given(spaces(), st.integers(0, 2**31 - 1))
def test_a_random_sample_decodes_to_values_of_the_space(drawn: tuple[SearchSpace, dict[str, Value]], seed: int) -> None:
    space, _ = drawn
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    trial = study.ask(space.distributions())
    values = space.decode(trial.params)
    for path, each in space.ranges.items():
        assert each.contains(values[path])
        if not isinstance(trial.distributions[path], FloatDistribution):
            assert space.encode(values)[path] == trial.params[path]
    assert space.decode(space.encode(values)) == values


@given(spaces())
def test_a_space_is_the_same_after_json(drawn: tuple[SearchSpace, dict[str, Value]]) -> None:
    space, _ = drawn
    again = SearchSpace(ranges={path: ParameterRange.model_validate(content) for path, content in space.content.items()})
    assert again.content == space.content
    assert again.describe() == tuple(sorted(space.describe()))
