"""A recipe inside Lightning: several optimizers, resuming exactly, stopping at a cycle's end."""

import pytest

pytest.importorskip("lightning", reason="needs the extra cyclr[lightning]")

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

import cyclr
from cyclr import Constant, Recipe, Triangular
from cyclr.errors import SpecError, StateError
from cyclr.integrations.lightning import CycleCallback, configuration, range_test
from integrations.lightning.nets import CYCLE, RECIPE, Net, Used, digits, sgd, trainer

pytestmark = pytest.mark.filterwarnings(
    "ignore:The 'train_dataloader' does not have many workers",
    "ignore:.*treespec, LeafSpec.*is deprecated",
)


def due(recipe, key="lr", steps=None):
    steps = recipe.total_steps if steps is None else steps
    return pytest.approx([recipe.values(step)[key] for step in range(steps)])


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


class Gan(pl.LightningModule):
    """Two optimizers, of which the first makes several updates per batch."""

    automatic_optimization = False

    def __init__(self, configure, updates=3) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.one, self.two = nn.Linear(64, 10), nn.Linear(64, 10)
        self.configure, self.updates = configure, updates

    def training_step(self, batch, batch_idx):
        first, second = self.optimizers()
        schedulers = self.lr_schedulers() or ()
        for optimizer, net, count in ((first, self.one, self.updates), (second, self.two, 1)):
            for _ in range(count):
                loss = nn.functional.cross_entropy(net(batch[0]), batch[1])
                optimizer.zero_grad()
                self.manual_backward(loss)
                optimizer.step()
                for scheduler in schedulers:
                    scheduler.step()
        return loss

    def configure_optimizers(self):
        return self.configure(self)


class TestConfiguration:
    def test_is_what_lightning_expects(self) -> None:
        optimizer = sgd(nn.Linear(2, 1).parameters())
        made = configuration(optimizer, RECIPE)
        assert made["optimizer"] is optimizer
        assert made["lr_scheduler"] == {
            "scheduler": made["lr_scheduler"]["scheduler"],
            "interval": "step",
            "frequency": 1,
        }

    def test_several_optimizers_each_follow_their_own_updates(self) -> None:
        module = Gan(
            lambda m: [
                configuration(sgd(m.one.parameters()), RECIPE),
                configuration(sgd(m.two.parameters()), Constant(value=0.05)),
            ]
        )
        used = Used()
        trainer(used, max_epochs=1, limit_train_batches=8).fit(module, digits())
        rates = used["lr"]
        first = [rate for i, rate in enumerate(rates) if i % 4 < 3]
        assert first == due(RECIPE)
        assert rates[3::4] == [0.05] * 8


class TestCallback:
    def test_drives_rate_momentum_and_decay_and_stops_at_the_end_of_a_cycle(self) -> None:
        recipe = RECIPE.replace(weight_decay=Triangular(base_lr=0.0, max_lr=0.01, stepsize=5))
        used, callback = Used(), CycleCallback(recipe)
        fitted = trainer(callback, used)
        module = Net(lambda m: torch.optim.AdamW(m.parameters(), lr=1.0, weight_decay=0.1))
        fitted.fit(module, digits())
        assert fitted.global_step == 24 == recipe.stopping_points[-1]
        assert used["lr"] == due(recipe)
        assert used["momentum"] == due(recipe, "momentum")
        assert used["decay"] == due(recipe, "weight_decay")

    def test_counts_updates_under_accumulation_also_at_the_end_of_an_epoch(self) -> None:
        used = Used()
        fitted = trainer(CycleCallback(RECIPE), used, accumulate_grad_batches=4)
        module = Net()
        # 29 batches an epoch: seven updates of four, and one of the last batch alone.
        fitted.fit(module, digits())
        assert fitted.global_step == 24
        assert module.batches == 3 * 29
        assert used["lr"] == due(RECIPE)

    def test_drives_every_update_of_several_optimizers(self) -> None:
        used = Used()
        module = Gan(lambda m: [sgd(m.one.parameters()), sgd(m.two.parameters())])
        long = RECIPE.replace(lr=Constant(value=0.05), momentum=None, total_steps=10)
        fitted = trainer(CycleCallback([RECIPE, long]), used)
        fitted.fit(module, digits())
        rates = used["lr"]
        assert fitted.fit_loop.total_batch_idx + 1 == 10  # the second ends last
        assert [rate for i, rate in enumerate(rates) if i % 4 < 3] == due(RECIPE, steps=30)
        assert rates[3::4] == [0.05] * 10

    def test_keeps_the_ratios_of_groups(self) -> None:
        def configure(module):
            head, *rest = reversed(list(module.parameters()))
            groups = [{"params": [head], "lr": 1.0}, {"params": rest, "lr": 0.1}]
            return torch.optim.SGD(groups, lr=1.0)

        recipe = RECIPE.replace(momentum=None)
        fitted = trainer(CycleCallback(recipe), max_steps=4)
        with pytest.warns(UserWarning, match="ends after 4 updates"):
            fitted.fit(Net(configure), digits())
        rates = [group["lr"] for group in fitted.optimizers[0].param_groups]
        assert rates == pytest.approx([CYCLE(4), CYCLE(4) / 10])

    @pytest.mark.filterwarnings(
        "ignore:the Trainer ends after:UserWarning",
        "ignore:You're resuming from a checkpoint that ended before the epoch ended",
    )
    @pytest.mark.parametrize("accumulate", [1, 2])
    @pytest.mark.parametrize("steps", [11, 15])
    def test_resuming_in_the_middle_of_a_cycle_is_exact(self, steps, accumulate, tmp_path) -> None:
        def fit(ckpt_path=None, **options):
            module, used = Net(), Used()
            module.body[3].p = 0.0  # Lightning's checkpoints leave random generators to the user
            callbacks = [CycleCallback(RECIPE), used]
            fitted = trainer(*callbacks, accumulate_grad_batches=accumulate, **options)
            # Always the same batch: where in the data to go on is Lightning's affair.
            data = DataLoader([next(iter(digits()))] * 16, batch_size=None)
            fitted.fit(module, data, ckpt_path=ckpt_path)
            return fitted, module, used

        _, whole, used = fit()
        begun, _, first = fit(max_steps=steps)
        begun.save_checkpoint(path := tmp_path / "half.ckpt")
        resumed, half, rest = fit(ckpt_path=path)
        assert resumed.global_step == 24
        assert (len(first.values), len(rest.values)) == (steps, 24 - steps)
        assert first.values + rest.values == used.values
        assert torch.equal(weights(half), weights(whole))

    def test_a_finished_training_resumes_to_nothing(self, tmp_path) -> None:
        fitted = trainer(CycleCallback(RECIPE))
        fitted.fit(Net(), digits())
        fitted.save_checkpoint(tmp_path / "end.ckpt")
        again, module = trainer(CycleCallback(RECIPE)), Net()
        again.fit(module, digits(), ckpt_path=tmp_path / "end.ckpt")
        assert module.batches == 0
        assert again.global_step == 24

    @pytest.mark.filterwarnings("ignore:the Trainer ends after:UserWarning")
    def test_another_recipe_on_resuming_must_be_allowed(self, tmp_path) -> None:
        fitted = trainer(CycleCallback(RECIPE), max_epochs=1, limit_train_batches=6)
        fitted.fit(Net(), digits())
        fitted.save_checkpoint(path := tmp_path / "half.ckpt")
        other = Recipe(lr=Constant(value=0.02), total_steps=10)
        with pytest.raises(StateError, match="saved under another plan"):
            trainer(CycleCallback(other)).fit(Net(), digits(), ckpt_path=path)
        callback, used = CycleCallback(other, allow_change=True), Used()
        trainer(callback, used).fit(Net(), digits(), ckpt_path=path)
        assert used["lr"] == [0.02] * 4

    def test_a_second_fit_starts_the_recipe_over(self) -> None:
        callback, used = CycleCallback(RECIPE), Used()
        for _ in range(2):
            trainer(callback, used).fit(Net(), digits())
        one = [RECIPE.values(step)["lr"] for step in range(24)]
        assert used["lr"] == pytest.approx(one * 2)

    def test_a_scheduler_of_the_module_s_own_is_an_error(self) -> None:
        def configure(module):
            optimizer = sgd(module.parameters())
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

        with pytest.raises(StateError, match=r"Net\.configure_optimizers returns a sched.*StepLR"):
            trainer(CycleCallback(RECIPE)).fit(Net(configure), digits())

    def test_wrong_recipes_are_errors(self) -> None:
        with pytest.raises(SpecError, match=r"recipe must be a cyclr Recipe, got Triangular2"):
            CycleCallback(CYCLE)
        with pytest.raises(SpecError, match="one recipe, or 1: one for each optimizer"):
            trainer(CycleCallback([RECIPE, RECIPE])).fit(Net(), digits())

    def test_an_exception_leaves_no_hook_behind(self) -> None:
        optimizers = []

        def configure(module):
            optimizers.append(sgd(module.parameters()))
            return optimizers[-1]

        def fail():
            raise KeyError("data")

        with pytest.raises(KeyError):
            trainer(CycleCallback(RECIPE)).fit(Net(configure, on_batch=fail), digits())
        [optimizer] = optimizers
        live = len(optimizer._optimizer_step_post_hooks)
        fitted = trainer(CycleCallback(RECIPE), max_epochs=2)
        fitted.fit(Net(lambda _: optimizer), digits())
        # Of the Scheduler itself there is a weak reference; that of the callback is gone.
        assert len(optimizer._optimizer_step_post_hooks) == live + 1


def test_range_test_plan_and_training_of_digits() -> None:
    module, data = Net(), digits(shuffle=True)
    record = range_test(trainer(), module, data)
    recipe = cyclr.plan(record.read(), total_steps=8 * len(data))
    fitted = trainer(CycleCallback(recipe))
    fitted.fit(module, data)
    module.eval()
    with torch.no_grad():
        inputs, labels = data.dataset.tensors
        accuracy = (module.body(inputs).argmax(1) == labels).float().mean()
    assert fitted.global_step == recipe.total_steps == 232
    assert accuracy > 0.97
