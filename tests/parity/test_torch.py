import pytest

from cyclr.schedules import (
    Chain,
    ExpRange,
    LinearSweep,
    OneCycle,
    Triangular,
    Triangular2,
    WarmRestarts,
)

torch = pytest.importorskip("torch")
peers = torch.optim.lr_scheduler

BOUNDS = {"base_lr": 0.001, "max_lr": 0.006, "stepsize": 20}


def optimizer_at(rate):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=rate, momentum=0.9)


def drive(optimizer, scheduler, steps):
    """What each of the optimizer's updates used."""
    used = []
    for _ in range(steps):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.param_groups[0]["params"][0].grad = torch.ones(2)
        optimizer.step()
        scheduler.step()
    return used


def ours(schedule, steps):
    return pytest.approx([schedule(step) for step in range(steps)], rel=1e-6, abs=1e-15)


@pytest.mark.parametrize(
    ("mode", "schedule"),
    [
        ("triangular", Triangular(**BOUNDS)),
        ("triangular2", Triangular2(**BOUNDS)),
        ("exp_range", ExpRange(**BOUNDS, gamma=0.99)),
    ],
)
def test_cyclic_lr_uses_the_same_rates(mode, schedule):
    optimizer = optimizer_at(0.1)
    scheduler = peers.CyclicLR(
        optimizer,
        base_lr=0.001,
        max_lr=0.006,
        step_size_up=20,
        mode=mode,
        gamma=0.99,
        cycle_momentum=False,
    )
    assert drive(optimizer, scheduler, 205) == ours(schedule, 205)


@pytest.mark.parametrize(("anneal", "theirs"), [("linear", "linear"), ("cosine", "cos")])
@pytest.mark.parametrize(
    ("phases", "stepsize"), [("two", 29), ("two", 1), ("three", 39), ("three", 24)]
)
def test_one_cycle_lr_uses_the_same_rates(anneal, theirs, phases, stepsize):
    optimizer = optimizer_at(0.1)
    scheduler = peers.OneCycleLR(
        optimizer,
        max_lr=0.5,
        total_steps=100,
        pct_start=(stepsize + 1) / 100,
        anneal_strategy=theirs,
        div_factor=25.0,
        final_div_factor=1e4,
        cycle_momentum=False,
        three_phase=phases == "three",
    )
    schedule = OneCycle(
        max_lr=0.5,
        base_lr=0.02,
        final_lr=0.02 / 1e4,
        total_steps=100,
        stepsize=stepsize,
        anneal=anneal,
        phases=phases,
    )
    used = drive(optimizer, scheduler, 99)
    used.append(optimizer.param_groups[0]["lr"])
    assert used == ours(schedule, 100)
    assert max(used) == used[stepsize] == pytest.approx(0.5)


@pytest.mark.parametrize("multiplier", [1, 2, 3])
def test_cosine_annealing_warm_restarts_uses_the_same_rates(multiplier):
    optimizer = optimizer_at(0.1)
    scheduler = peers.CosineAnnealingWarmRestarts(
        optimizer, T_0=10, T_mult=multiplier, eta_min=0.002
    )
    schedule = WarmRestarts(max_lr=0.1, min_lr=0.002, period=10, multiplier=multiplier)
    assert drive(optimizer, scheduler, 1300) == ours(schedule, 1300)


# Some versions pass the pieces an epoch when they take over, and warn against doing so.
@pytest.mark.filterwarnings("ignore:.*epoch parameter.*:UserWarning")
def test_sequential_lr_of_a_warmup_and_restarts_uses_the_same_rates():
    optimizer = optimizer_at(0.1)
    scheduler = peers.SequentialLR(
        optimizer,
        schedulers=[
            peers.LinearLR(optimizer, start_factor=0.1, total_iters=8),
            peers.CosineAnnealingWarmRestarts(optimizer, T_0=10, T_mult=2),
        ],
        milestones=[8],
    )
    schedule = Chain(
        schedules=(
            LinearSweep(start_lr=0.01, end_lr=0.1, steps=8, endpoint=False),
            WarmRestarts(max_lr=0.1, period=10, multiplier=2),
        )
    )
    assert schedule.starts == (8,)
    assert drive(optimizer, scheduler, 120) == ours(schedule, 120)


@pytest.mark.filterwarnings("ignore:.*epoch parameter.*:UserWarning")
def test_sequential_lr_of_three_levels_uses_the_same_rates():
    optimizer = optimizer_at(1.0)
    levels = [(1.0, 0.5, 10), (0.5, 0.1, 20), (0.2, 0.0, 15)]
    scheduler = peers.SequentialLR(
        optimizer,
        schedulers=[
            peers.LinearLR(optimizer, start_factor=start, end_factor=end, total_iters=length)
            for start, end, length in levels
        ],
        milestones=[10, 30],
    )
    schedule = Chain(
        schedules=tuple(
            LinearSweep(start_lr=start, end_lr=end, steps=length, endpoint=False)
            for start, end, length in levels
        )
    )
    assert schedule.total_steps == 45
    assert drive(optimizer, scheduler, 60) == ours(schedule, 60)
