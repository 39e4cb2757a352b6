import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclr import Chain, Triangular, Units, from_dict, from_json, from_toml
from cyclr.errors import SpecError

UNITS = Units(steps_per_epoch=390, total_steps=10_001)


@pytest.mark.parametrize(
    ("duration", "steps"),
    [
        (0, 0),
        (500, 500),
        ("500st", 500),
        ("500.0st", 500),
        ("4ep", 1560),
        ("0.5ep", 195),
        (" .5 ep ", 195),
        ("0.3run", 3000),
        ("1run", 10_001),
        ("0run", 0),
    ],
)
def test_each_form_becomes_steps(duration, steps):
    assert UNITS.steps(duration) == steps


@given(st.integers(0, 10**12))
def test_steps_stay_what_they_are(steps):
    assert Units().steps(steps) == steps
    assert Units().steps(f"{steps}st") == steps


@pytest.mark.parametrize(
    ("duration", "message"),
    [
        ("4 epochs", r"stepsize must be a whole number of steps, or a string such as"),
        ("ep", "a string such as"),
        ("-1ep", "a string such as"),
        ("", "a string such as"),
        ("1.5st", "stepsize must be a whole number of steps, got '1.5st'"),
        ("1.1run", "stepsize must be at most the whole run, got '1.1run'"),
        (2.5, "stepsize must be an int ≥ 0, got 2.5"),
        (-1, "stepsize must be an int ≥ 0, got -1"),
        (True, "stepsize must be an int ≥ 0, got True"),
        (None, "stepsize must be an int ≥ 0, got None"),
    ],
)
def test_what_is_no_duration_is_refused(duration, message):
    with pytest.raises(SpecError) as caught:
        UNITS.steps(duration, where="stepsize")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("duration", "missing"), [("4ep", "steps_per_epoch"), ("0.3run", "total_steps")]
)
def test_what_is_needed_and_not_given_is_named(duration, missing):
    with pytest.raises(SpecError, match=rf"which needs {missing}; pass Units\({missing}=…\)"):
        Units().steps(duration)


def test_units_check_themselves():
    with pytest.raises(SpecError, match=r"Units\.steps_per_epoch must be an int ≥ 1 or None"):
        Units(steps_per_epoch=0)


def test_a_spec_read_with_units_holds_steps_only():
    text = '{"kind": "triangular", "base_lr": 0.1, "max_lr": 1, "stepsize": "4ep", "cycles": 2}'
    schedule = from_json(text, units=UNITS)
    assert schedule == Triangular(base_lr=0.1, max_lr=1.0, stepsize=1560, cycles=2)
    assert type(schedule.stepsize) is int


def test_units_reach_into_nested_schedules_and_boundaries():
    piece = {"kind": "triangular", "base_lr": 0.1, "max_lr": 1, "stepsize": "1ep"}
    chain = from_dict(
        {"kind": "chain", "schedules": [piece, piece], "boundaries": ["0.5run"]}, units=UNITS
    )
    inner = Triangular(base_lr=0.1, max_lr=1.0, stepsize=390)
    assert chain == Chain(schedules=(inner, inner), boundaries=(5000,))


def test_a_duration_without_units_names_the_field():
    text = 'kind = "triangular"\nbase_lr = 0.1\nmax_lr = 1.0\nstepsize = "4ep"\n'
    with pytest.raises(SpecError, match=r"^schedule\.stepsize is '4ep', which needs"):
        from_toml(text)
    assert from_toml(text, units=UNITS).stepsize == 1560
