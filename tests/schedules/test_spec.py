import copy
import dataclasses
import json
import pickle
import re

import numpy as np
import pytest

import strategies
from cyclr import schedules
from cyclr.errors import CyclrError, InputError, SpecError
from cyclr.schedules import (
    Chain,
    Constant,
    Cyclical,
    LinearSweep,
    OneCycle,
    Scale,
    Triangular,
    WarmRestarts,
    cite,
    from_dict,
    from_json,
)

SCHEDULE = Triangular(base_lr=0.001, max_lr=0.006, stepsize=2000)


def test_every_exported_schedule_class_has_a_strategy_and_an_example():
    assert set(strategies.STRATEGIES) == set(strategies.EXPORTED)
    assert set(strategies.EXAMPLES) == set(strategies.EXPORTED)
    assert [type(example) for example in strategies.EXAMPLES.values()] == [*strategies.EXAMPLES]


def test_kinds_are_the_class_names_in_snake_case():
    kinds = {cls.__name__: cls.kind for cls in strategies.EXPORTED}
    words = {
        "Chain": "chain",
        "CosineSweep": "cosine_sweep",
        "ExpRange": "exp_range",
        "OneCycle": "one_cycle",
        "Triangular": "triangular",
        "Triangular2": "triangular2",
        "WarmRestarts": "warm_restarts",
    }
    assert {name: kinds[name] for name in words} == words
    assert all(kind.replace("_", "") == name.lower() for name, kind in kinds.items())


def test_the_public_names_are_sorted():
    assert schedules.__all__ == sorted(schedules.__all__)


def test_json_holds_the_kind_and_every_field_that_is_given():
    assert SCHEDULE.to_json() == (
        '{"kind": "triangular", "base_lr": 0.001, "max_lr": 0.006, "stepsize": 2000}'
    )
    chain = Chain(schedules=(LinearSweep(start_lr=0.0, end_lr=1.0, steps=3), SCHEDULE))
    assert json.loads(chain.to_json()) == {
        "kind": "chain",
        "schedules": [
            {
                "kind": "linear_sweep",
                "start_lr": 0.0,
                "end_lr": 1.0,
                "steps": 3,
                "endpoint": True,
            },
            {"kind": "triangular", "base_lr": 0.001, "max_lr": 0.006, "stepsize": 2000},
        ],
    }


def test_indented_json_reads_back_equal():
    text = SCHEDULE.to_json(indent=2)
    assert text.splitlines()[1] == '  "kind": "triangular",'
    assert from_json(text) == SCHEDULE


def test_json_written_by_hand_is_read():
    read = from_json(
        '{"kind": "scale", "factor": 2, "schedule": {"kind": "one_cycle", "max_lr": 1,'
        ' "total_steps": 50, "stepsize": null}}'
    )
    assert read == Scale(factor=2.0, schedule=OneCycle(max_lr=1.0, total_steps=50))
    assert isinstance(read.factor, float)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            [1],
            'schedule must be an object with a "kind" key, got [1]; '
            'write {"kind": "triangular", ...}',
        ),
        (
            {"base_lr": 1},
            "schedule must be an object with a \"kind\" key, got {'base_lr': 1}; "
            'write {"kind": "triangular", ...}',
        ),
        (
            {"kind": "triangular", "base_lr": 0.1, "max_lr": 1.0},
            "schedule.stepsize is missing; triangular needs it",
        ),
        (
            {"kind": "constant", "value": 1.0, "colour": "red"},
            "schedule.colour is not a field of constant; its fields: value, steps",
        ),
        (
            {"kind": "constant", "value": "0.1"},
            "Constant.value must be a finite real number ≥ 0, got '0.1'; "
            "pass a plain number in that range",
        ),
        (
            {"kind": "chain", "schedules": {"kind": "constant", "value": 1.0}},
            "schedule.schedules must be a list, "
            "got {'kind': 'constant', 'value': 1.0}; write [...]",
        ),
        (
            {"kind": "chain", "schedules": [{"kind": "constant"}]},
            "schedule.schedules[0].value is missing; constant needs it",
        ),
        (
            {"kind": "scale", "factor": 1.0, "schedule": {"kind": "constant"}},
            "schedule.schedule.value is missing; constant needs it",
        ),
        (
            {"kind": "scale", "factor": 1.0, "schedule": None},
            "Scale.schedule must be a cyclr schedule, got None; "
            "pass a schedule such as Triangular(...)",
        ),
    ],
)
def test_data_that_is_no_schedule_is_refused_with_the_place(data, message):
    with pytest.raises(SpecError) as caught:
        from_json(json.dumps(data))
    assert str(caught.value) == message


@pytest.mark.parametrize("kind", ["triangle", "Triangular", "_cycle", "schedule", 3, None, []])
def test_an_unknown_kind_is_refused_and_the_known_ones_are_named(kind):
    with pytest.raises(SpecError) as caught:
        from_dict({"kind": kind})
    known = ", ".join(sorted(cls.kind for cls in strategies.EXPORTED))
    assert str(caught.value) == f"schedule.kind must be one of {known}, got {kind!r}; pick one"


def test_the_caller_can_name_the_place_of_the_data():
    with pytest.raises(SpecError, match=r"^recipe\.lr\.value is missing; constant needs it$"):
        from_dict({"kind": "constant"}, where="recipe.lr")


@pytest.mark.parametrize("text", ["", "{", "triangular", None])
def test_text_that_is_not_json_is_refused(text):
    with pytest.raises(SpecError, match=r"^a schedule must be written as JSON: "):
        from_json(text)


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_json_that_is_not_finite_is_refused(word):
    with pytest.raises(SpecError, match=r"^Constant\.value must be a finite real number ≥ 0"):
        from_json(f'{{"kind": "constant", "value": {word}}}')


def test_spec_errors_are_value_errors_of_the_library():
    assert SpecError.__mro__[1:4] == (InputError, CyclrError, ValueError)


@pytest.mark.parametrize(
    ("cls", "number"),
    [
        ("Triangular", "1506.01186"),
        ("Triangular2", "1506.01186"),
        ("ExpRange", "1506.01186"),
        ("Cyclical", "1506.01186"),
        ("Chain", "1506.01186"),
        ("LinearSweep", "1506.01186"),
        ("WarmRestarts", "1608.03983"),
        ("CosineSweep", "1608.03983"),
        ("OneCycle", "1708.07120"),
        ("OneCycle", "1803.09820"),
        ("Opposite", "1803.09820"),
        ("Constant", "no paper"),
        ("Scale", "no paper"),
    ],
)
def test_citing_names_the_paper_of_the_formula(cls, number):
    assert number in cite(strategies.EXAMPLES[getattr(schedules, cls)])


@pytest.mark.parametrize("cls", strategies.CLASSES)
def test_specs_are_frozen_and_keyword_only(cls):
    example = strategies.EXAMPLES[cls]
    fields = strategies.fields_of(example)
    name = next(iter(fields))
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(example, name, fields[name])
    with pytest.raises(TypeError):
        cls(*fields.values())


@pytest.mark.parametrize("cls", strategies.CLASSES)
def test_copies_and_pickles_are_equal_and_give_the_same_values(cls):
    example = strategies.EXAMPLES[cls]
    values = [example(step) for step in range(120)]
    for twin in (copy.deepcopy(example), pickle.loads(pickle.dumps(example))):
        assert twin == example
        assert hash(twin) == hash(example)
        assert [twin(step) for step in range(120)] == values


def test_specs_of_different_fields_or_kinds_differ():
    assert SCHEDULE.replace(stepsize=2001) != SCHEDULE
    assert Cyclical(base_lr=0.001, max_lr=0.006, stepsize=2000) != SCHEDULE
    assert Triangular(base_lr=0.001, max_lr=0.006, stepsize=np.int32(2000)) == SCHEDULE


def test_replace_checks_what_it_is_given():
    assert SCHEDULE.replace(max_lr=0.5)(2000) == pytest.approx(0.5)
    assert SCHEDULE.max_lr == 0.006
    with pytest.raises(SpecError, match=r"^Triangular\.max_lr must be ≥ base_lr \(0\.001\)"):
        SCHEDULE.replace(max_lr=0.0001)
    with pytest.raises(TypeError, match="colour"):
        SCHEDULE.replace(colour=1)


def test_replacing_what_a_length_depends_on_changes_the_length():
    schedule = WarmRestarts(max_lr=1.0, period=10, multiplier=2, cycles=2)
    assert schedule.total_steps == 30
    assert schedule.replace(cycles=3).total_steps == 70
    assert schedule.replace(period=1).cycle_ends() == (1, 3)


@pytest.mark.parametrize(
    "step", [-1, 1.0, 2.5, True, "3", None, [1, 2], np.int64(-1), np.float64(3.0), np.bool_(True)]
)
def test_a_step_that_is_no_count_is_refused(step):
    with pytest.raises(SpecError) as caught:
        SCHEDULE(step)
    assert str(caught.value) == (
        f"step must be an int ≥ 0, got {step!r}; count in whole steps (optimizer updates)"
    )


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (2**63, "step must be < 2**63"),
        (np.array([2**63], dtype="uint64"), "steps must be < 2**63"),
        (np.array([1.0, np.inf]), "steps must be < 2**63, got inf"),
        (np.array([1.0, np.nan]), "steps must be ≥ 0, got nan"),
    ],
)
def test_a_step_that_no_counter_reaches_is_refused(steps, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        SCHEDULE(steps)


def test_an_array_with_a_negative_step_is_refused():
    with pytest.raises(SpecError) as caught:
        SCHEDULE(np.array([3, -2, 5]))
    assert str(caught.value) == "steps must be ≥ 0, got -2; count from 0"


@pytest.mark.parametrize("steps", [np.array([True]), np.array(["1"]), np.array([1j])])
def test_an_array_of_something_else_than_numbers_is_refused(steps):
    with pytest.raises(SpecError, match=r"^steps must be an array of numbers, got dtype\("):
        SCHEDULE(steps)


@pytest.mark.parametrize("cls", strategies.CLASSES)
def test_an_int_step_gives_a_python_float(cls):
    example = strategies.EXAMPLES[cls]
    assert type(example(7)) is float
    assert type(example(np.int64(7))) is float
    assert example(np.int64(7)) == example(7)


def test_cycle_ends_of_a_schedule_without_end_need_a_limit():
    with pytest.raises(SpecError) as caught:
        SCHEDULE.cycle_ends()
    assert str(caught.value) == (
        "Triangular never ends, so its cycle ends cannot all be listed; pass until=<steps>"
    )
    assert Constant(value=1.0).cycle_ends(100) == ()


@pytest.mark.parametrize("until", [-1, 20.0, "20"])
def test_cycle_ends_up_to_no_count_are_refused(until):
    with pytest.raises(SpecError, match=r"until must be an int ≥ 0"):
        SCHEDULE.cycle_ends(until)
