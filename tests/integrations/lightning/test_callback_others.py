"""CycleCallback beside other callbacks that set rates or add parameter groups."""

import warnings

import pytest

pytest.importorskip("lightning", reason="needs the extra cyclr[lightning]")

import torch
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BaseFinetuning,
    Callback,
    StochasticWeightAveraging,
)
from torch.utils.data import IterableDataset

from cyclr.errors import StateError
from cyclr.integrations.lightning import CycleCallback
from integrations.lightning.nets import CYCLE, RECIPE, Net, digits, trainer

pytestmark = pytest.mark.filterwarnings(
    "ignore:The 'train_dataloader' does not have many workers",
    "ignore:.*treespec, LeafSpec.*is deprecated",
)


class Rates(Callback):
    """Notes the rates of all groups in each update."""

    def __init__(self) -> None:
        self.values: list = []

    def on_fit_start(self, trainer, pl_module) -> None:
        trainer.optimizers[0].register_step_pre_hook(
            lambda optimizer, *_: self.values.append([g["lr"] for g in optimizer.param_groups])
        )


class Pretrained(Net):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = self.body[0]
        self.body[3].p = 0.0

    def configure_optimizers(self):
        trained = [p for p in self.parameters() if p.requires_grad]
        return torch.optim.SGD(trained, lr=0.5, momentum=0.9)


class Unfreeze(BaseFinetuning):
    def __init__(self, lr=None) -> None:
        super().__init__()
        self.lr = lr

    def freeze_before_training(self, pl_module) -> None:
        self.freeze(pl_module.backbone)

    def on_fit_start(self, trainer, pl_module) -> None:
        super().on_fit_start(trainer, pl_module)
        if len(trainer.optimizers[0].param_groups) > 1:
            self.make_trainable(pl_module.backbone)  # Lightning leaves it frozen when resuming

    def finetune_function(self, pl_module, epoch, optimizer) -> None:
        if epoch == 1:
            self.unfreeze_and_add_param_group(pl_module.backbone, optimizer, lr=self.lr)


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def test_stochastic_weight_averaging_is_refused_before_training() -> None:
    module = Net()
    averaging = StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=1)
    with pytest.raises(StateError, match="StochasticWeightAveraging sets a rate of its own"):
        trainer(averaging, CycleCallback(RECIPE)).fit(module, digits(512))
    assert module.batches == 0


def test_the_recipe_has_the_last_word_and_says_so() -> None:
    class Meddler(Callback):
        def on_train_batch_start(self, trainer, *_) -> None:
            if trainer.global_step > 5:
                trainer.optimizers[0].param_groups[0]["lr"] = 7.0

    used = Rates()
    with pytest.warns(UserWarning, match=r"set the rates to \[7\.0\]") as caught:
        trainer(CycleCallback(RECIPE), used, Meddler()).fit(Net(), digits(512))
    assert len([w for w in caught if "set the rates" in str(w.message)]) == 1
    assert [rate for [rate] in used.values] == pytest.approx([CYCLE(k) for k in range(24)])


class TestAddedGroups:
    @pytest.mark.parametrize("resumed_at", [4, 8, 12])
    @pytest.mark.parametrize("first", [True, False])
    def test_follow_the_recipe_at_their_ratio_and_resume_exactly(
        self, resumed_at, first, tmp_path
    ) -> None:
        def fit(ckpt_path=None, steps=-1):
            module, used = Pretrained(), Rates()
            mine = [CycleCallback(RECIPE), Unfreeze()]
            fitted = trainer(*(mine if first else mine[::-1]), used, max_steps=steps)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "the Trainer ends after")
                fitted.fit(module, digits(512), ckpt_path=ckpt_path)
            return fitted, module, used

        _, whole, used = fit()
        assert [rates[0] for rates in used.values] == pytest.approx([CYCLE(k) for k in range(24)])
        assert [len(rates) for rates in used.values] == [1] * 4 + [2] * 20
        ratios = [rates[1] / rates[0] for rates in used.values[4:]]
        assert ratios == pytest.approx([0.1] * 20)
        begun, _, begin = fit(steps=resumed_at)
        begun.save_checkpoint(path := tmp_path / "half.ckpt")
        resumed, half, rest = fit(ckpt_path=path)
        assert resumed.global_step == 24
        assert begin.values + rest.values == used.values
        assert torch.equal(weights(half), weights(whole))

    def test_rates_above_the_recipe_s_are_an_error(self) -> None:
        with pytest.raises(StateError, match=r"added to SGD before update 4 with a rate of 3,"):
            trainer(CycleCallback(RECIPE), Unfreeze(lr=3.0)).fit(Pretrained(), digits(512))

    def test_a_finetuning_that_goes_on_setting_rates_is_overruled_with_a_warning(self) -> None:
        used = Rates()
        tuning = BackboneFinetuning(unfreeze_backbone_at_epoch=1)
        with pytest.warns(UserWarning, match="set the rates to"):
            trainer(CycleCallback(RECIPE), tuning, used).fit(Pretrained(), digits(512))
        ratios = [rates[1] / rates[0] for rates in used.values[4:]]
        assert ratios == pytest.approx([0.1] * 20)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_no_warning_of_an_early_end_where_the_length_is_not_known() -> None:
    class Endless(IterableDataset):
        def __iter__(self):
            return iter(digits(512))

    fitted = trainer(CycleCallback(RECIPE), max_epochs=10)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "the Trainer ends after")
        fitted.fit(Net(), torch.utils.data.DataLoader(Endless(), batch_size=None))
    assert fitted.global_step == 24
