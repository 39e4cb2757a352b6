"""Compiled optimizers: values that are tensors change without compiling anew."""

import shutil

import pytest
import torch
from torch import nn

from cyclr import Opposite, Recipe, Triangular
from cyclr.integrations.torch import Scheduler

RATE = Triangular(base_lr=0.01, max_lr=0.1, stepsize=4)
MOMENTUM = Opposite(schedule=RATE, bottom=0.01, top=0.1, low=0.85, high=0.95)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("with_momentum", [False, True])
def test_tensor_rates_and_betas_compile_once(with_momentum) -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model = nn.Linear(3, 2)
    betas = (torch.tensor(0.9), torch.tensor(0.999)) if with_momentum else (0.9, 0.999)
    optimizer = torch.optim.Adam(
        model.parameters(),
        lr=torch.tensor(0.1),
        betas=betas,
        capturable=with_momentum,
        foreach=False,
    )
    recipe = Recipe(lr=RATE, momentum=MOMENTUM if with_momentum else None, total_steps=16)
    scheduler = Scheduler(optimizer, recipe)
    step = torch.compile(lambda: optimizer.step())
    used = []
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(6):
            used.append(float(optimizer.param_groups[0]["lr"]))
            model(torch.randn(4, 3)).square().sum().backward()
            step()
            scheduler.step()
    assert used == pytest.approx([RATE(k) for k in range(6)], rel=1e-6)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    if with_momentum:
        beta1 = float(optimizer.param_groups[0]["betas"][0])
        assert beta1 == pytest.approx(MOMENTUM(6), rel=1e-6)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_counter_of_recompilations_would_notice_numbers() -> None:
    torch._dynamo.reset()
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, foreach=False)
    scheduler = Scheduler(optimizer, RATE)
    step = torch.compile(lambda: optimizer.step())

    def train() -> None:
        for _ in range(6):
            model(torch.randn(4, 3)).square().sum().backward()
            step()
            scheduler.step()

    with (
        torch._dynamo.config.patch(error_on_recompile=True),
        pytest.raises(torch._dynamo.exc.RecompileError),
    ):
        train()
