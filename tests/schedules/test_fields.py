import dataclasses
from fractions import Fraction

import numpy as np
import pytest

import strategies
from cyclr.errors import SpecError
from cyclr.schedules import Constant, Scale, Triangular
from cyclr.schedules.fields import Constraint, choice, flag, integer, real, schedule, sequence

NAN, INF = float("nan"), float("inf")


def broken(constraint):
    """Values that break a constraint, made from the constraint itself."""
    if constraint.kind == "tuple":
        entries = [(value,) for value in broken(constraint.item)]
        return [3, "ab", {"a": 1}, *entries] + ([] if constraint.optional else [None])
    values = {
        "real": [NAN, INF, -INF, "0.5", True, 1j, [0.5], np.bool_(True)],
        "integer": [1.0, 2.5, "3", True, NAN, [1], np.bool_(True)],
        "choice": ["no such word", 1, ""],
        "flag": [0, 1, "yes", np.array([True])],
        "schedule": [3, "triangular", {"kind": "constant", "value": 1.0}, Triangular, len],
    }[constraint.kind]
    if constraint.gt is not None:
        values += [constraint.gt, constraint.gt - 1]
    if constraint.ge is not None:
        values += [constraint.ge - 1]
    if constraint.lt is not None:
        values += [constraint.lt, constraint.lt + 1]
    if constraint.le is not None:
        values += [constraint.le + 1]
    return values if constraint.optional else [*values, None]


CASES = [
    pytest.param(cls, name, value, id=f"{cls.__name__}.{name}={value!r}")
    for cls in strategies.CLASSES
    for name, constraint in cls.constraints().items()
    for value in broken(constraint)
]


@pytest.mark.parametrize(("cls", "name", "value"), CASES)
def test_a_value_that_breaks_its_fields_constraint_is_refused_by_name(cls, name, value):
    fields = strategies.fields_of(strategies.EXAMPLES[cls]) | {name: value}
    with pytest.raises(SpecError) as caught:
        cls(**fields)
    message = str(caught.value)
    place = rf"{cls.__name__}.{name}"
    if isinstance(value, tuple):
        place, (value,) = f"{place}[0]", value
    assert message.startswith(f"{place} must be ")
    assert f", got {value!r}; " in message


def test_every_schedule_declares_what_each_of_its_fields_must_be():
    for cls in strategies.CLASSES:
        names = [field.name for field in dataclasses.fields(cls)]
        assert [*cls.constraints()] == names
        assert {type(constraint) for constraint in cls.constraints().values()} == {Constraint}


@pytest.mark.parametrize(
    ("constraint", "words"),
    [
        (Constraint(kind="real"), "a finite real number"),
        (Constraint(kind="real", gt=0), "a finite real number > 0"),
        (Constraint(kind="real", gt=0, le=1), "a finite real number > 0 and ≤ 1"),
        (Constraint(kind="real", ge=0, lt=0.5), "a finite real number ≥ 0 and < 0.5"),
        (Constraint(kind="integer", ge=1, optional=True), "an int ≥ 1 or None"),
        (Constraint(kind="choice", options=("a", "b")), "one of 'a', 'b'"),
        (Constraint(kind="flag"), "True or False"),
        (Constraint(kind="schedule", optional=True), "a cyclr schedule or None"),
        (
            Constraint(kind="tuple", item=Constraint(kind="integer", ge=1)),
            "a sequence in which each entry is an int ≥ 1",
        ),
    ],
)
def test_a_constraint_reads_as_words(constraint, words):
    assert constraint.words == words


@pytest.mark.parametrize(
    ("constraint", "given", "plain"),
    [
        (Constraint(kind="real"), 1, 1.0),
        (Constraint(kind="real"), Fraction(1, 4), 0.25),
        (Constraint(kind="real"), np.float32(0.5), 0.5),
        (Constraint(kind="real"), np.int64(3), 3.0),
        (Constraint(kind="real", ge=0, le=1), 0, 0.0),
        (Constraint(kind="real", ge=0, le=1), 1.0, 1.0),
        (Constraint(kind="real", gt=0), 5e-324, 5e-324),
        (Constraint(kind="integer", ge=1), np.int32(1), 1),
        (Constraint(kind="integer"), 10**30, 10**30),
        (Constraint(kind="integer", optional=True), None, None),
        (Constraint(kind="choice", options=("a", "b")), "b", "b"),
        (Constraint(kind="flag"), False, False),
        (Constraint(kind="tuple", item=Constraint(kind="integer")), [1, np.int64(2)], (1, 2)),
        (Constraint(kind="tuple", item=Constraint(kind="integer")), iter([1, 2]), (1, 2)),
        (Constraint(kind="tuple", item=Constraint(kind="integer")), (), ()),
        (Constraint(kind="tuple", item=Constraint(kind="real"), optional=True), None, None),
    ],
)
def test_a_value_within_its_constraint_becomes_plain_python(constraint, given, plain):
    checked = constraint.check("here", given)
    assert checked == plain
    assert type(checked) is type(plain)


@pytest.mark.parametrize(
    ("constraint", "value", "message"),
    [
        (
            Constraint(kind="real", gt=0),
            0,
            "here must be a finite real number > 0, got 0; pass a plain number in that range",
        ),
        (
            Constraint(kind="integer", ge=1),
            0.5,
            "here must be an int ≥ 1, got 0.5; count in whole steps (optimizer updates)",
        ),
        (
            Constraint(kind="choice", options=("a", "b")),
            "c",
            "here must be one of 'a', 'b', got 'c'; pick one of them",
        ),
        (
            Constraint(kind="flag"),
            1,
            "here must be True or False, got 1; pick one of them",
        ),
        (
            Constraint(kind="schedule"),
            0.1,
            "here must be a cyclr schedule, got 0.1; pass a schedule such as Triangular(...)",
        ),
        (
            Constraint(kind="tuple", item=Constraint(kind="integer", ge=1)),
            (1, 0),
            "here[1] must be an int ≥ 1, got 0; count in whole steps (optimizer updates)",
        ),
        (
            Constraint(kind="tuple", item=Constraint(kind="integer", ge=1)),
            "12",
            "here must be a sequence in which each entry is an int ≥ 1, got '12'; "
            "pass a list or a tuple",
        ),
        (
            Constraint(kind="real"),
            10**400,
            f"here must be a finite real number, got 1{'0' * 117} …; "
            "pass a plain number in that range",
        ),
    ],
)
def test_a_complaint_says_where_which_constraint_which_value_and_what_to_do(
    constraint, value, message
):
    with pytest.raises(SpecError) as caught:
        constraint.check("here", value)
    assert str(caught.value) == message


def test_the_helpers_declare_their_constraint_and_default():
    declared = {
        "real": real(default=0.5, gt=0, le=1),
        "integer": integer(default=None, ge=1, optional=True),
        "choice": choice("a", "b", default="a"),
        "flag": flag(default=True),
        "schedule": schedule(default=None, optional=True),
        "sequence": sequence("integer", default=None, ge=1, optional=True),
    }
    assert {name: field.metadata["constraint"] for name, field in declared.items()} == {
        "real": Constraint(kind="real", gt=0, le=1),
        "integer": Constraint(kind="integer", ge=1, optional=True),
        "choice": Constraint(kind="choice", options=("a", "b")),
        "flag": Constraint(kind="flag"),
        "schedule": Constraint(kind="schedule", optional=True),
        "sequence": Constraint(kind="tuple", item=Constraint(kind="integer", ge=1), optional=True),
    }
    assert [field.default for field in declared.values()] == [0.5, None, "a", True, None, None]


@pytest.mark.parametrize("declare", [real, integer, lambda: choice("a"), schedule])
def test_a_field_without_a_default_is_required(declare):
    assert declare().default is dataclasses.MISSING


def test_fields_hold_plain_numbers_whatever_was_passed():
    made = Constant(value=np.float64(0.25), steps=np.int64(3))
    assert (type(made.value), type(made.steps)) == (float, int)
    assert made.to_json() == '{"kind": "constant", "value": 0.25, "steps": 3}'
    assert type(Scale(schedule=made, factor=2).factor) is float
