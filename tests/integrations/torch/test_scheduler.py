"""The torch Scheduler, on real optimizers."""

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn

from cyclr import Constant, LinearSweep, OneCycle, Opposite, Recipe, Triangular
from cyclr.errors import SpecError, StateError
from cyclr.integrations.torch import Scheduler

RATE = Triangular(base_lr=0.1, max_lr=1.0, stepsize=4)
MOMENTUM = Opposite(schedule=RATE, bottom=0.1, top=1.0, low=0.85, high=0.95)
RECIPE = Recipe(lr=RATE, momentum=MOMENTUM, total_steps=16)


def _parameter() -> nn.Parameter:
    return nn.Parameter(torch.ones(3))


def _sgd(**options) -> torch.optim.SGD:
    return torch.optim.SGD([_parameter()], **{"lr": 0.5, "momentum": 0.9, **options})


def _update(optimizer) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def _drive(optimizer, scheduler, steps, read=lambda group: group["lr"]):
    """List what each update uses."""
    used = []
    for _ in range(steps):
        value = read(optimizer.param_groups[0])
        used.append(float(value))
        _update(optimizer)
        scheduler.step()
    return used


def test_it_is_a_torch_lr_scheduler() -> None:
    assert isinstance(Scheduler(_sgd(), RATE), torch.optim.lr_scheduler.LRScheduler)


def test_update_k_uses_the_schedule_at_k() -> None:
    optimizer = _sgd()
    assert _drive(optimizer, Scheduler(optimizer, RATE), 20) == [RATE(k) for k in range(20)]


def test_the_rate_is_right_across_blocks_of_precomputed_steps() -> None:
    rate = Triangular(base_lr=0.1, max_lr=1.0, stepsize=700)
    optimizer = _sgd()
    used = _drive(optimizer, Scheduler(optimizer, rate), 2500)
    assert used == pytest.approx([rate(k) for k in range(2500)], rel=1e-12)


def test_momentum_moves_opposite_to_the_rate() -> None:
    optimizer = _sgd()
    used = _drive(optimizer, Scheduler(optimizer, RECIPE), 9, lambda g: g["momentum"])
    assert used == pytest.approx([0.95, 0.925, 0.9, 0.875, 0.85, 0.875, 0.9, 0.925, 0.95])


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam])
def test_adam_s_beta1_takes_the_momentum_s_place(make) -> None:
    optimizer = make([_parameter()], lr=0.5, betas=(0.9, 0.99))
    used = _drive(optimizer, Scheduler(optimizer, RECIPE), 5, lambda g: g["betas"][0])
    assert used == pytest.approx([0.95, 0.925, 0.9, 0.875, 0.85])
    assert optimizer.param_groups[0]["betas"][1] == 0.99


def test_weight_decay_follows_its_schedule() -> None:
    decay = LinearSweep(start_lr=1e-2, end_lr=0.0, steps=5)
    optimizer = _sgd(weight_decay=0.5)
    recipe = Recipe(lr=RATE, weight_decay=decay, total_steps=5)
    used = _drive(optimizer, Scheduler(optimizer, recipe), 6, lambda g: g["weight_decay"])
    assert used == pytest.approx([1e-2, 7.5e-3, 5e-3, 2.5e-3, 0.0, 0.0])


def test_ratios_between_groups_are_kept() -> None:
    groups = [
        {"params": [_parameter()], "lr": 0.02, "weight_decay": 0.0},
        {"params": [_parameter()], "lr": 0.2, "weight_decay": 1e-4},
        {"params": [_parameter()], "lr": 0.0, "weight_decay": 5e-5},
    ]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    recipe = Recipe(lr=RATE, weight_decay=Constant(value=1e-3), total_steps=8)
    scheduler = Scheduler(optimizer, recipe)
    for _ in range(4):
        _update(optimizer)
        scheduler.step()
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.1, 1.0, 0.0])
    decays = [g["weight_decay"] for g in optimizer.param_groups]
    assert decays == pytest.approx([0.0, 1e-3, 5e-4])


def test_groups_can_have_schedules_of_their_own() -> None:
    optimizer = torch.optim.SGD([{"params": [_parameter()]}, {"params": [_parameter()]}], lr=0.5)
    scheduler = Scheduler(optimizer, [RATE, Constant(value=0.3)])
    for _ in range(4):
        _update(optimizer)
        scheduler.step()
    assert [g["lr"] for g in optimizer.param_groups] == [1.0, 0.3]
    assert scheduler.get_last_lr() == [1.0, 0.3]


def test_a_tensor_rate_is_filled_in_place_and_read_as_a_copy() -> None:
    optimizer = torch.optim.Adam([_parameter()], lr=torch.tensor(0.5))
    rate = optimizer.param_groups[0]["lr"]
    scheduler = Scheduler(optimizer, RATE)
    _update(optimizer)
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] is rate
    assert float(rate) == pytest.approx(RATE(1))
    scheduler.get_last_lr()[0].fill_(9.0)
    assert float(rate) == pytest.approx(RATE(1))


def test_without_an_update_it_does_not_move() -> None:
    optimizer = _sgd()
    scheduler = Scheduler(optimizer, RATE)
    for _ in range(5):  # micro-batches, or an update that AMP skipped
        scheduler.step()
    assert scheduler.last_epoch == 0
    assert optimizer.param_groups[0]["lr"] == RATE(0)


def test_repeated_calls_after_one_update_count_once() -> None:
    optimizer = _sgd()
    scheduler = Scheduler(optimizer, RATE)
    _update(optimizer)
    for _ in range(4):  # Accelerate calls once per process
        scheduler.step()
    assert scheduler.last_epoch == 1


def test_several_updates_before_a_call_count_as_so_many_with_one_warning() -> None:
    optimizer = _sgd()
    scheduler = Scheduler(optimizer, RECIPE)
    for _ in range(3):
        _update(optimizer)
    with pytest.warns(
        UserWarning, match=r"made 3 updates since scheduler\.step\(\) was last called"
    ):
        scheduler.step()
    assert scheduler.last_epoch == 3
    assert optimizer.param_groups[0]["lr"] == pytest.approx(RATE(3))
    _update(optimizer)
    _update(optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler.step()  # said once
    assert (scheduler.last_epoch, optimizer.param_groups[0]["lr"]) == (5, pytest.approx(RATE(5)))


def test_an_update_that_the_grad_scaler_skips_does_not_count() -> None:
    parameter = _parameter()
    optimizer = torch.optim.SGD([parameter], lr=0.5)
    scheduler = Scheduler(optimizer, RATE)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    seen = []
    for factor in (1.0, float("inf"), 1.0):
        optimizer.zero_grad()
        scaler.scale((parameter * factor).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        seen.append(scheduler.last_epoch)
    assert seen == [1, 1, 2]


def test_a_fused_optimizer_told_to_skip_does_not_count() -> None:
    parameter = _parameter()
    optimizer = torch.optim.SGD([parameter], lr=0.5, fused=True)
    scheduler = Scheduler(optimizer, RATE)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    seen = []
    for factor in (float("inf"), 1.0):
        optimizer.zero_grad()
        scaler.scale((parameter * factor).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        seen.append(scheduler.last_epoch)
    assert seen == [0, 1]


def test_after_its_end_the_last_value_holds() -> None:
    optimizer = _sgd()
    rate = OneCycle(max_lr=1.0, total_steps=10, stepsize=4)
    used = _drive(optimizer, Scheduler(optimizer, rate), 15)
    assert used[9:] == [rate.final] * 6


def test_a_state_loads_twice_and_resumes_mid_cycle_exactly() -> None:
    optimizer = _sgd()
    scheduler = Scheduler(optimizer, RECIPE)
    whole = _drive(optimizer, scheduler, 12)
    first = _sgd()
    part = Scheduler(first, RECIPE)
    begun = _drive(first, part, 5)
    state = part.state_dict()
    before = copy.deepcopy(state)
    for _ in range(2):
        second = _sgd()
        resumed = Scheduler(second, RECIPE)
        resumed.load_state_dict(state)
        assert begun + _drive(second, resumed, 7) == whole
    assert state == before


def test_a_state_survives_weights_only_loading(tmp_path) -> None:
    optimizer = _sgd()
    scheduler = Scheduler(optimizer, RECIPE)
    _drive(optimizer, scheduler, 3)
    torch.save(scheduler.state_dict(), tmp_path / "s.pt")
    other = Scheduler(_sgd(), RECIPE)
    other.load_state_dict(torch.load(tmp_path / "s.pt", weights_only=True))
    assert other.get_last_lr() == [RATE(3)]


def test_a_changed_budget_on_resume_is_refused_unless_allowed() -> None:
    optimizer = _sgd()
    scheduler = Scheduler(optimizer, OneCycle(max_lr=1.0, total_steps=10))
    _drive(optimizer, scheduler, 3)
    longer = OneCycle(max_lr=1.0, total_steps=20)
    with pytest.raises(StateError, match="allow_change=True"):
        Scheduler(_sgd(), longer).load_state_dict(scheduler.state_dict())
    allowed = Scheduler(_sgd(), longer, allow_change=True)
    allowed.load_state_dict(scheduler.state_dict())
    assert allowed.get_last_lr() == [longer(3)]


def test_a_foreign_state_is_refused() -> None:
    optimizer = _sgd()
    foreign = torch.optim.lr_scheduler.StepLR(optimizer, 3).state_dict()
    with pytest.raises(StateError, match="must be a cyclr Scheduler's"):
        Scheduler(_sgd(), RATE).load_state_dict(foreign)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("triangular", "a cyclr schedule or Recipe"),
        (0.1, "a cyclr schedule or Recipe"),
        ([RATE, RATE], "one schedule or recipe, or 1: one per parameter group"),
    ],
)
def test_a_plan_that_is_not_one_is_refused(plan, message) -> None:
    with pytest.raises(SpecError, match=message):
        Scheduler(_sgd(), plan)


def test_momentum_for_an_optimizer_without_any_is_refused() -> None:
    optimizer = torch.optim.Adagrad([_parameter()], lr=0.1)
    with pytest.raises(SpecError, match=r"recipe\.replace\(momentum=None\)"):
        Scheduler(optimizer, RECIPE)


def test_something_that_is_not_an_optimizer_is_refused() -> None:
    with pytest.raises(TypeError, match="got Linear"):
        Scheduler(nn.Linear(1, 1), RATE)


def test_a_group_added_later_is_an_error() -> None:
    optimizer = _sgd()
    scheduler = Scheduler(optimizer, RATE)
    optimizer.add_param_group({"params": [_parameter()]})
    _update(optimizer)
    with pytest.raises(StateError, match="make a new Scheduler after add_param_group"):
        scheduler.step()


def test_it_does_not_keep_itself_alive_through_the_optimizer() -> None:
    import gc
    import weakref

    optimizer = _sgd()
    scheduler = Scheduler(optimizer, RATE)
    watch = weakref.ref(scheduler)
    del scheduler
    gc.collect()
    assert watch() is None
    _update(optimizer)  # the hook that stays behind does no harm


def test_two_optimizers_are_counted_apart() -> None:
    """As in a GAN: the critic makes three updates for each of the generator's."""
    critic, generator = _sgd(), _sgd()
    schedulers = [Scheduler(critic, RATE), Scheduler(generator, RATE)]
    for _ in range(2):
        for _ in range(3):
            _update(critic)
            schedulers[0].step()
        _update(generator)
        schedulers[1].step()
    assert [scheduler.last_epoch for scheduler in schedulers] == [6, 2]
    assert schedulers[0].get_last_lr() == [RATE(6)]
    assert schedulers[1].get_last_lr() == [RATE(2)]


def test_making_a_scheduler_rewrites_nothing_but_what_it_schedules() -> None:
    optimizer = torch.optim.SGD(
        [{"params": [_parameter()], "lr": 0.1}, {"params": [_parameter()], "lr": 0.01}],
        lr=0.1,
        momentum=0.5,
    )
    Scheduler(optimizer, RATE)
    assert [group["initial_lr"] for group in optimizer.param_groups] == [0.1, 0.01]
    assert [group["momentum"] for group in optimizer.param_groups] == [0.5, 0.5]


def test_the_optimizer_s_own_step_is_left_as_it_is() -> None:
    """The base class would wrap it, which costs time in every update."""
    optimizer = _sgd()
    Scheduler(optimizer, RATE)
    assert "step" not in vars(optimizer)
    peer = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    wrapped = optimizer.step
    Scheduler(optimizer, RATE)
    assert optimizer.step is wrapped
    _update(optimizer)
    peer.step()  # warns, and so fails, if it does not see that the optimizer made its step


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copied_and_unpickled_it_goes_on(clone) -> None:
    whole = _drive(optimizer := _sgd(), Scheduler(optimizer, RECIPE), 12)
    optimizer = _sgd()
    scheduler = Scheduler(optimizer, RECIPE)
    begun = _drive(optimizer, scheduler, 5)
    other_optimizer, other = clone((optimizer, scheduler))
    assert begun + _drive(other_optimizer, other, 7) == whole
    assert scheduler.last_epoch == 5
    assert begun + _drive(optimizer, scheduler, 7) == whole


def _momenta(optimizer):
    return [group["momentum"] for group in optimizer.param_groups]


@pytest.mark.filterwarnings("ignore:.*epoch parameter.*:UserWarning")
def test_after_torch_s_own_warmup_it_starts_from_its_step_0() -> None:
    """The warmup uses the user's rate and momentum, not what the later part has written."""
    peers = torch.optim.lr_scheduler
    optimizer = torch.optim.SGD([_parameter()], lr=0.5, momentum=0.7, weight_decay=0.3)
    recipe = RECIPE.replace(weight_decay=Constant(value=0.01))
    parts = [peers.LinearLR(optimizer, start_factor=0.1, total_iters=5)]
    ours = Scheduler(optimizer, recipe)
    chained = peers.SequentialLR(optimizer, [*parts, ours], milestones=[5])
    used = []
    for _ in range(12):
        group = optimizer.param_groups[0]
        used.append((group["lr"], group["momentum"], group["weight_decay"]))
        _update(optimizer)
        chained.step()
    warmup = [(0.5 * (0.1 + 0.9 * k / 5), 0.7, 0.3) for k in range(5)]
    due = [(RATE(k), MOMENTUM(k), 0.01) for k in range(7)]
    assert used == [pytest.approx(row) for row in warmup + due]
    assert optimizer.param_groups[0]["initial_lr"] == 0.5


@pytest.mark.filterwarnings("ignore:.*epoch parameter.*:UserWarning")
@pytest.mark.parametrize("saved_after", [2, 5, 7])
def test_a_sequence_resumes_before_and_after_its_turn(saved_after) -> None:
    peers = torch.optim.lr_scheduler

    def fresh():
        optimizer = _sgd(momentum=0.7)
        parts = [peers.LinearLR(optimizer, 0.1, total_iters=5), Scheduler(optimizer, RECIPE)]
        return optimizer, peers.SequentialLR(optimizer, parts, milestones=[5])

    def drive(optimizer, chained, steps):
        used = []
        for _ in range(steps):
            used.append((optimizer.param_groups[0]["lr"], *_momenta(optimizer)))
            _update(optimizer)
            chained.step()
        return used

    whole = drive(*fresh(), 12)
    begun, chained = fresh()
    used = drive(begun, chained, saved_after)
    optimizer, resumed = fresh()
    optimizer.load_state_dict(copy.deepcopy(begun.state_dict()))
    resumed.load_state_dict(copy.deepcopy(chained.state_dict()))
    assert used + drive(optimizer, resumed, 12 - saved_after) == whole


@pytest.mark.filterwarnings("ignore:.*epoch parameter.*:UserWarning")
def test_two_of_them_in_a_sequence_and_the_user_s_settings_before_both() -> None:
    peers = torch.optim.lr_scheduler
    optimizer = _sgd(momentum=0.7)
    later = RECIPE.replace(lr=Constant(value=0.25), momentum=Constant(value=0.4))
    parts = [
        peers.ConstantLR(optimizer, factor=1.0),
        Scheduler(optimizer, RECIPE),
        Scheduler(optimizer, later),
    ]
    chained = peers.SequentialLR(optimizer, parts, milestones=[2, 5])
    used = []
    for _ in range(7):
        used.append((optimizer.param_groups[0]["lr"], *_momenta(optimizer)))
        _update(optimizer)
        chained.step()
    due = [(0.5, 0.7)] * 2 + [(RATE(k), MOMENTUM(k)) for k in range(3)] + [(0.25, 0.4)] * 2
    assert used == [pytest.approx(row) for row in due]


def test_as_the_first_of_a_sequence_it_begins_at_once() -> None:
    peers = torch.optim.lr_scheduler
    optimizer = _sgd()
    first = Scheduler(optimizer, RATE)
    chained = peers.SequentialLR(
        optimizer, [first, peers.ExponentialLR(optimizer, 0.5)], milestones=[6]
    )
    assert _drive(optimizer, chained, 6) == [RATE(k) for k in range(6)]


def test_a_second_scheduler_knows_the_ratios_that_the_optimizer_was_made_with() -> None:
    """Although the first has set all weight decays to zero by now."""
    groups = [{"params": [_parameter()]}, {"params": [_parameter()], "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.5, weight_decay=0.2)
    recipe = Recipe(lr=RATE, weight_decay=Constant(value=0.0), total_steps=8)
    Scheduler(optimizer, recipe)
    Scheduler(optimizer, recipe.replace(weight_decay=Constant(value=0.1)))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]


def test_beta2_stays_the_user_s_even_when_changed_on_the_way() -> None:
    optimizer = torch.optim.Adam([_parameter()], lr=0.5, betas=(0.9, 0.99))
    scheduler = Scheduler(optimizer, RECIPE)
    _drive(optimizer, scheduler, 2)
    optimizer.param_groups[0]["betas"] = (0.5, 0.98)
    _drive(optimizer, scheduler, 1)
    assert optimizer.param_groups[0]["betas"] == (MOMENTUM(3), 0.98)


@pytest.mark.parametrize("epoch", [-1, 1.5, 2**63, "3"])
def test_going_to_what_is_not_a_step_is_refused(epoch) -> None:
    scheduler = Scheduler(_sgd(), RATE)
    with pytest.raises(SpecError, match="epoch must be"):
        scheduler.step(epoch)
    assert scheduler.last_epoch == 0


def test_going_to_a_step_and_on_from_there() -> None:
    optimizer = _sgd()
    scheduler = Scheduler(optimizer, RATE)
    for step in (5000, 3, 10**9, 4095):
        scheduler.step(step)
        assert _drive(optimizer, scheduler, 3) == [RATE(step + k) for k in range(3)]
        assert scheduler.last_epoch == step + 3


def test_groups_of_one_ratio_share_what_is_evaluated() -> None:
    groups = [{"params": [_parameter()], "lr": 0.5 if i % 2 else 0.1} for i in range(100)]
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    scheduler = Scheduler(optimizer, RECIPE)
    lists = {id(values) for columns in scheduler._columns for _, values in columns}
    assert len(lists) == 3  # two rates, one momentum
    _update(optimizer)
    scheduler.step()
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates == [pytest.approx(RATE(1) * (1.0 if i % 2 else 0.2)) for i in range(100)]


@pytest.mark.parametrize("capturable", [False, True])
def test_tensor_betas_and_rates_stay_the_same_objects(capturable) -> None:
    betas = (torch.tensor(0.9), torch.tensor(0.999)) if capturable else (0.9, 0.999)
    optimizer = torch.optim.Adam(
        [_parameter()], lr=torch.tensor(0.5), betas=betas, foreach=False, capturable=capturable
    )
    group = optimizer.param_groups[0]
    rate, beta1 = group["lr"], group["betas"][0]
    scheduler = Scheduler(optimizer, RECIPE)
    for _ in range(6):  # by hand: capturable optimizers only make updates on an accelerator
        scheduler._updates[0] = 1
        scheduler.step()
    assert group["lr"] is rate
    assert float(rate) == pytest.approx(RATE(6))
    assert (group["betas"][0] is beta1) == capturable
    assert float(group["betas"][0]) == pytest.approx(MOMENTUM(6))
