"""Hypothesis strategies: one for each schedule class, and schedules() for any of them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from cyclr import schedules as family
from cyclr.schedules import (
    Chain,
    Clamp,
    Constant,
    CosineSweep,
    Cyclical,
    ExponentialDecay,
    ExponentialSweep,
    ExpRange,
    InverseDecay,
    InverseSqrt,
    Knee,
    LinearSweep,
    MultiStep,
    Noam,
    OneCycle,
    Opposite,
    PolynomialDecay,
    Rex,
    Scale,
    Schedule,
    SlantedTriangular,
    StepDecay,
    Triangular,
    Triangular2,
    WarmRestarts,
    WarmupStableDecay,
)

EXPORTED = tuple(
    cls
    for cls in (getattr(family, name) for name in family.__all__)
    if isinstance(cls, type) and issubclass(cls, Schedule) and cls is not Schedule
)

RATES = st.floats(1e-6, 10.0)
SHARES = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.01, 1.0))
STEPSIZES = st.integers(1, 60)
CYCLES = st.one_of(st.none(), st.integers(1, 5))
GAMMAS = st.one_of(st.just(1.0), st.floats(0.9, 1.0))
DECAYS = st.sampled_from(["amplitude", "bounds"])


def _bounds_of_a_cycle(draw: Any) -> dict[str, Any]:
    top = draw(RATES)
    return {
        "base_lr": top * draw(SHARES),
        "max_lr": top,
        "stepsize": draw(STEPSIZES),
        "cycles": draw(CYCLES),
    }


@st.composite
def triangular(draw):
    return Triangular(**_bounds_of_a_cycle(draw))


@st.composite
def triangular2(draw):
    return Triangular2(**_bounds_of_a_cycle(draw))


@st.composite
def exp_range(draw):
    return ExpRange(**_bounds_of_a_cycle(draw), gamma=draw(GAMMAS), decay=draw(DECAYS))


@st.composite
def cyclical(draw):
    envelope = draw(st.sampled_from(["constant", "halving", "exponential"]))
    return Cyclical(
        **_bounds_of_a_cycle(draw),
        window=draw(st.sampled_from(["triangular", "welch", "hann"])),
        envelope=envelope,
        gamma=draw(GAMMAS) if envelope == "exponential" else None,
        decay=draw(DECAYS),
        down_stepsize=draw(st.one_of(st.none(), STEPSIZES)),
        hold_max=draw(st.integers(0, 9)),
        hold_base=draw(st.integers(0, 9)),
    )


@st.composite
def warm_restarts(draw):
    top = draw(RATES)
    return WarmRestarts(
        max_lr=top,
        min_lr=top * draw(SHARES),
        period=draw(STEPSIZES),
        multiplier=draw(st.sampled_from([1, 1.25, 1.5, 2, 2.7, 3])),
        peak_decay=draw(st.one_of(st.just(1.0), st.floats(0.1, 1.0))),
        cycles=draw(CYCLES),
    )


@st.composite
def one_cycle(draw):
    top = draw(RATES)
    base = draw(st.one_of(st.none(), SHARES.map(lambda share: top * share)))
    low = top / 10 if base is None else base
    phases = draw(st.sampled_from(["three", "two", "logs"]))
    if draw(st.booleans()):
        stepsize, total = None, draw(st.integers(3, 300))
    else:
        stepsize = draw(STEPSIZES)
        total = max(3, 2 * stepsize + draw(st.integers(0, 60)))
    return OneCycle(
        max_lr=top,
        base_lr=base,
        total_steps=total,
        stepsize=stepsize,
        final_lr=draw(st.one_of(st.none(), SHARES.map(lambda share: low * share))),
        anneal=draw(st.sampled_from(["linear", "cosine"])),
        phases=phases,
    )


@st.composite
def constant(draw):
    steps = draw(st.one_of(st.none(), st.integers(1, 100)))
    return Constant(value=draw(st.one_of(st.just(0.0), RATES)), steps=steps)


@st.composite
def _sweep(draw, cls, rates):
    start, end = draw(rates), draw(rates)
    return cls(
        start_lr=start, end_lr=end, steps=draw(st.integers(2, 100)), endpoint=draw(st.booleans())
    )


def linear_sweep():
    return _sweep(LinearSweep, st.one_of(st.just(0.0), RATES))


def exponential_sweep():
    return _sweep(ExponentialSweep, RATES)


def cosine_sweep():
    return _sweep(CosineSweep, st.one_of(st.just(0.0), RATES))


FACTORS = st.one_of(st.just(1.0), st.floats(0.1, 1.0))


@st.composite
def step_decay(draw):
    return StepDecay(max_lr=draw(RATES), factor=draw(FACTORS), every=draw(STEPSIZES))


@st.composite
def multi_step(draw):
    boundaries = draw(st.lists(st.integers(1, 200), unique=True, max_size=4).map(sorted))
    return MultiStep(max_lr=draw(RATES), factor=draw(FACTORS), boundaries=tuple(boundaries))


@st.composite
def exponential_decay(draw):
    return ExponentialDecay(max_lr=draw(RATES), gamma=draw(GAMMAS))


@st.composite
def inverse_decay(draw):
    gamma, power = draw(st.floats(0.0, 1.0)), draw(st.floats(0.0, 2.0))
    return InverseDecay(max_lr=draw(RATES), gamma=gamma, power=power)


@st.composite
def polynomial_decay(draw):
    top = draw(RATES)
    return PolynomialDecay(
        max_lr=top,
        final_lr=top * draw(SHARES),
        total_steps=draw(st.integers(1, 100)),
        power=draw(st.sampled_from([0.5, 1.0, 2.0])),
    )


@st.composite
def rex(draw):
    top = draw(RATES)
    return Rex(max_lr=top, final_lr=top * draw(SHARES), total_steps=draw(st.integers(1, 100)))


@st.composite
def inverse_sqrt(draw):
    return InverseSqrt(max_lr=draw(RATES), warmup_steps=draw(STEPSIZES))


@st.composite
def noam(draw):
    return Noam(d_model=draw(st.integers(1, 1024)), warmup_steps=draw(STEPSIZES), factor=1.5)


@st.composite
def warmup_stable_decay(draw):
    top, warm, cool = draw(RATES), draw(st.integers(0, 30)), draw(STEPSIZES)
    return WarmupStableDecay(
        max_lr=top,
        total_steps=warm + cool + draw(st.integers(0, 50)),
        warmup_steps=warm,
        decay_steps=cool,
        final_lr=top * draw(SHARES),
        decay=draw(st.sampled_from(["linear", "cosine", "1-sqrt"])),
    )


@st.composite
def knee(draw):
    warm, explore = draw(st.integers(0, 30)), draw(st.integers(0, 50))
    total = max(2, warm + explore + draw(STEPSIZES))
    return Knee(max_lr=draw(RATES), total_steps=total, explore_steps=explore, warmup_steps=warm)


@st.composite
def slanted_triangular(draw):
    rise = draw(STEPSIZES)
    return SlantedTriangular(
        max_lr=draw(RATES),
        total_steps=rise + draw(STEPSIZES),
        stepsize=rise,
        ratio=draw(st.floats(1.0, 100.0)),
    )


def elementary() -> st.SearchStrategy[Schedule]:
    """Any schedule that is not made from others."""
    return st.one_of(
        triangular(),
        triangular2(),
        exp_range(),
        cyclical(),
        warm_restarts(),
        one_cycle(),
        constant(),
        linear_sweep(),
        exponential_sweep(),
        cosine_sweep(),
        step_decay(),
        multi_step(),
        exponential_decay(),
        inverse_decay(),
        polynomial_decay(),
        rex(),
        inverse_sqrt(),
        noam(),
        warmup_stable_decay(),
        knee(),
        slanted_triangular(),
    )


@st.composite
def chain(draw, pieces=None):
    pieces = elementary() if pieces is None else pieces
    parts = draw(st.lists(pieces, min_size=1, max_size=3))
    gaps = draw(st.lists(st.integers(1, 80), min_size=len(parts) - 1, max_size=len(parts) - 1))
    given = draw(st.booleans()) or any(part.total_steps is None for part in parts[:-1])
    boundaries = tuple(sum(gaps[: i + 1]) for i in range(len(gaps))) if given else None
    return Chain(schedules=tuple(parts), boundaries=boundaries)


@st.composite
def scale(draw, inner=None):
    part = draw(elementary() if inner is None else inner)
    return Scale(schedule=part, factor=draw(st.one_of(st.just(0.0), st.floats(0.01, 10.0))))


@st.composite
def clamp(draw, inner=None):
    high = draw(RATES)
    part = draw(elementary() if inner is None else inner)
    return Clamp(schedule=part, low=high * draw(SHARES), high=high)


@st.composite
def opposite(draw, inner=None):
    part = draw(elementary() if inner is None else inner)
    # A range far narrower than the rate's own would only compare rounding errors.
    bottom, top = limits(part)
    top = max(top, bottom * 1.5, 1e-6) * draw(st.floats(1.0, 2.0))
    high = draw(st.floats(0.01, 1.0))
    return Opposite(schedule=part, bottom=bottom, top=top, low=high * draw(SHARES), high=high)


def schedules() -> st.SearchStrategy[Schedule]:
    """Any schedule, also nested ones."""
    return st.recursive(
        elementary(),
        lambda inner: st.one_of(chain(inner), scale(inner), clamp(inner), opposite(inner)),
        max_leaves=4,
    )


STRATEGIES: dict[type[Schedule], st.SearchStrategy[Schedule]] = {
    Triangular: triangular(),
    Triangular2: triangular2(),
    ExpRange: exp_range(),
    Cyclical: cyclical(),
    WarmRestarts: warm_restarts(),
    OneCycle: one_cycle(),
    Constant: constant(),
    LinearSweep: linear_sweep(),
    ExponentialSweep: exponential_sweep(),
    CosineSweep: cosine_sweep(),
    Chain: chain(),
    Scale: scale(),
    Clamp: clamp(),
    Opposite: opposite(),
    StepDecay: step_decay(),
    MultiStep: multi_step(),
    ExponentialDecay: exponential_decay(),
    InverseDecay: inverse_decay(),
    PolynomialDecay: polynomial_decay(),
    Rex: rex(),
    InverseSqrt: inverse_sqrt(),
    Noam: noam(),
    WarmupStableDecay: warmup_stable_decay(),
    Knee: knee(),
    SlantedTriangular: slanted_triangular(),
}

_TRIANGULAR = Triangular(base_lr=0.1, max_lr=1.0, stepsize=10)

EXAMPLES: dict[type[Schedule], Schedule] = {
    Triangular: _TRIANGULAR,
    Triangular2: Triangular2(base_lr=0.1, max_lr=1.0, stepsize=10, cycles=3),
    ExpRange: ExpRange(base_lr=0.1, max_lr=1.0, stepsize=10, gamma=0.99),
    Cyclical: Cyclical(
        base_lr=0.1, max_lr=1.0, stepsize=10, envelope="exponential", gamma=0.99, down_stepsize=5
    ),
    WarmRestarts: WarmRestarts(max_lr=1.0, min_lr=0.1, period=10, multiplier=1.5, cycles=3),
    OneCycle: OneCycle(max_lr=1.0, base_lr=0.1, total_steps=100, stepsize=45, final_lr=0.001),
    Constant: Constant(value=0.1, steps=10),
    LinearSweep: LinearSweep(start_lr=0.1, end_lr=1.0, steps=10),
    ExponentialSweep: ExponentialSweep(start_lr=0.1, end_lr=1.0, steps=10),
    CosineSweep: CosineSweep(start_lr=1.0, end_lr=0.1, steps=10),
    Chain: Chain(schedules=(_TRIANGULAR, _TRIANGULAR), boundaries=(40,)),
    Scale: Scale(schedule=_TRIANGULAR, factor=0.5),
    Clamp: Clamp(schedule=_TRIANGULAR, low=0.2, high=0.8),
    Opposite: Opposite(schedule=_TRIANGULAR, bottom=0.1, top=1.0, low=0.85, high=0.95),
    StepDecay: StepDecay(max_lr=1.0, factor=0.5, every=10),
    MultiStep: MultiStep(max_lr=1.0, factor=0.1, boundaries=(10, 25)),
    ExponentialDecay: ExponentialDecay(max_lr=1.0, gamma=0.99),
    InverseDecay: InverseDecay(max_lr=0.01, gamma=1e-4, power=0.75),
    PolynomialDecay: PolynomialDecay(max_lr=1.0, total_steps=50, power=2.0),
    Rex: Rex(max_lr=1.0, total_steps=50, final_lr=0.1),
    InverseSqrt: InverseSqrt(max_lr=1.0, warmup_steps=10),
    Noam: Noam(d_model=512, warmup_steps=40),
    WarmupStableDecay: WarmupStableDecay(
        max_lr=1.0, total_steps=100, warmup_steps=10, decay_steps=20
    ),
    Knee: Knee(max_lr=1.0, total_steps=100, explore_steps=50, warmup_steps=5),
    SlantedTriangular: SlantedTriangular(max_lr=1.0, total_steps=100, stepsize=10),
}

# Every parametrized test runs over these; one test holds them to what is exported.
CLASSES = tuple(EXAMPLES)


def fields_of(schedule: Schedule) -> dict[str, Any]:
    """The fields of a schedule, as its constructor takes them."""
    return {name: getattr(schedule, name) for name in schedule.constraints()}


def limits(schedule: Schedule) -> tuple[float, float]:  # noqa: C901 -- one case a family
    """The bounds that a schedule's fields promise for every step."""
    match schedule:
        case ExpRange(decay="bounds") | Cyclical(envelope="exponential", decay="bounds"):
            return 0.0, schedule.max_lr
        case Triangular() | Triangular2() | ExpRange() | Cyclical():
            return schedule.base_lr, schedule.max_lr
        case WarmRestarts():
            return schedule.min_lr, schedule.max_lr
        case OneCycle():
            low = 0.0 if schedule.phases == "logs" else schedule.final
            return low, schedule.max_lr
        case Constant():
            return schedule.value, schedule.value
        case LinearSweep() | ExponentialSweep() | CosineSweep():
            return (
                min(schedule.start_lr, schedule.end_lr),
                max(schedule.start_lr, schedule.end_lr),
            )
        case StepDecay() | MultiStep() | ExponentialDecay() | InverseDecay() | InverseSqrt():
            return 0.0, schedule.max_lr
        case PolynomialDecay() | Rex():
            return schedule.final_lr, schedule.max_lr
        case WarmupStableDecay() | Knee():
            return 0.0, schedule.max_lr
        case SlantedTriangular():
            return schedule.max_lr / schedule.ratio, schedule.max_lr
        case Noam():
            peak = schedule.factor * (schedule.d_model * schedule.warmup_steps) ** -0.5
            return 0.0, peak
        case Chain():
            pairs = [limits(part) for part in schedule.schedules]
            return min(low for low, _ in pairs), max(high for _, high in pairs)
        case Scale():
            low, high = limits(schedule.schedule)
            return low * schedule.factor, high * schedule.factor
        case Clamp() | Opposite():
            return schedule.low, schedule.high
    raise TypeError(type(schedule))


def size(schedule: Schedule) -> float:
    """The largest value that a schedule or any part of it can take: what rounding scales with."""
    own = limits(schedule)[1]
    match schedule:
        case Chain():
            return max(own, *(size(part) for part in schedule.schedules))
        case Scale() | Clamp():
            return max(own, size(schedule.schedule) * getattr(schedule, "factor", 1.0))
        case Opposite():
            span = (schedule.high - schedule.low) / (schedule.top - schedule.bottom)
            return max(own, size(schedule.schedule) * span)
    return own


def probes(schedule: Schedule, drawn: list[int] | None = None) -> list[int]:
    """Steps worth asking for: the first, around every joint and the end, far away, and drawn."""
    joints = {0, 1, 2, 500, 10**6}
    joints.update(schedule.cycle_ends(600))
    joints.update(getattr(schedule, "starts", ()))
    joints.add(getattr(schedule, "stepsize", None) or 1)
    if schedule.total_steps is not None:
        joints.add(schedule.total_steps)
    near = {joint + offset for joint in joints for offset in (-1, 0, 1)}
    return sorted(step for step in near.union(drawn or ()) if step >= 0)
