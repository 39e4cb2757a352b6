"""How the Lightning range test ends where values explode: with a record, or lower than before."""

import pytest

pytest.importorskip("lightning", reason="needs the extra cyclr[lightning]")

import torch
from torch import nn

from cyclr import ExponentialSweep, Outcome, RangeTest
from cyclr.integrations.lightning import range_test
from integrations.lightning.nets import Net, digits, trainer

pytestmark = pytest.mark.filterwarnings(
    "ignore:The 'train_dataloader' does not have many workers",
    "ignore:.*treespec, LeafSpec.*is deprecated",
)
STEEP = ExponentialSweep(start_lr=1e-3, end_lr=1e12, steps=12)


class Squares(Net):
    """A regression, which explodes as classifiers do not."""

    scale = 1.0

    def loss(self, batch):
        outputs = self.body[0](batch[0])[:, 0]
        return self.scale * nn.functional.mse_loss(outputs, batch[1].float())

    def training_step(self, batch, batch_idx):
        self.on_batch()
        self.batches += 1
        return self.loss(batch)


class Checked(Squares):
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        if not torch.isfinite(loss):
            raise ValueError("the loss is not finite")
        return loss


class Clipped(Squares):
    def on_before_optimizer_step(self, optimizer) -> None:
        torch.nn.utils.clip_grad_norm_(self.parameters(), 1e30, error_if_nonfinite=True)


class Mistaken(Squares):
    def training_step(self, batch, batch_idx):
        if self.batches == 3:
            raise KeyError("nan")
        return super().training_step(batch, batch_idx)


class FromTheStart(Squares):
    def training_step(self, batch, batch_idx):
        raise ValueError("the loss is not finite")


def state(module):
    numbers = {name: value.clone() for name, value in module.state_dict().items()}
    return numbers, module.batches, torch.get_rng_state()


def same(one, other):
    assert all(torch.equal(one[0][name], other[0][name]) for name in one[0])
    assert one[1] == other[1]
    assert torch.equal(one[2], other[2])


class TestExceptionsAboutValues:
    @pytest.mark.parametrize("kind", [Checked, Clipped])
    def test_end_the_sweep_with_a_record(self, kind) -> None:
        module, seen = kind(), []
        before = state(module)
        # Without its own judgement, as a loss that soars ends the test before.
        test = RangeTest(STEEP, stop_on_divergence=False)
        fitted = trainer()
        record = range_test(
            fitted, module, digits(), sweep=test, on_step=lambda test: seen.append(test.step)
        )
        assert record.outcome is Outcome.NON_FINITE
        assert seen == list(range(1, len(record) + 1))
        assert 2 < len(record) < 12
        assert f"Step {len(record) - 1} raised" in record.notes[0]
        same(before, state(module))
        fitted.fit_loop.max_epochs = 1
        fitted.fit(Net(), digits(512))
        assert fitted.global_step == 4

    @pytest.mark.parametrize(("kind", "error"), [(Mistaken, KeyError), (FromTheStart, ValueError)])
    def test_mistakes_and_errors_of_the_first_step_come_through(self, kind, error) -> None:
        test = RangeTest(STEEP, stop_on_divergence=False)
        with pytest.raises(error):
            range_test(trainer(), kind(), digits(), sweep=test)
        assert test.record.outcome is Outcome.INTERRUPTED

    def test_those_of_on_step_come_through(self) -> None:
        def on_step(test):
            if test.step == 3:
                raise ValueError("nan in the user's own plot")

        with pytest.raises(ValueError, match="the user's own plot"):
            range_test(trainer(), Squares(), digits(), sweep=STEEP, on_step=on_step)


@pytest.mark.parametrize("kind", [Squares, Checked])
def test_a_sweep_that_begins_too_high_begins_again_lower(kind) -> None:
    module, first = kind(), []
    module.scale = 1e12
    before = state(module)

    def on_step(test):
        if test.step == 1:
            first.append((test.record.lr[0], test.record.loss[0]))

    record = range_test(trainer(), module, digits(), on_step=on_step)
    assert record.outcome is Outcome.DIVERGED
    assert record.scout.lr[0] == pytest.approx(1e-19)
    begun = [1e-7, 1e-13, 1e-19, record.lr[0]]  # three scouts, and the slow run
    assert [lr for lr, _ in first] == pytest.approx(begun)
    assert record.lr[0] <= record.scout.lr[-1] / 200 * (1 + 1e-9)
    assert len({loss for _, loss in first}) == 1  # from the same weights and batch
    again = [note for note in record.notes if "the sweep began again from" in note]
    assert [note.rsplit(" ", 1)[1] for note in again] == ["1e-13.", "1e-19."]
    assert record.read().max_lr < 1e-10
    same(before, state(module))


def test_a_sweep_of_the_user_s_that_begins_too_high_is_run_as_given() -> None:
    module = Squares()
    module.scale = 1e12
    sweep = ExponentialSweep(start_lr=1e-7, end_lr=1.0, steps=50)
    record = range_test(trainer(), module, digits(), sweep=sweep)
    assert record.lr[0] == 1e-7
    assert record.notes == ()
