"""The callback of ``model.fit``: where it ends, and that the order of callbacks is no matter."""

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the extra keras")

from cyclr import OneCycle, Recipe  # noqa: E402
from cyclr.errors import StateError  # noqa: E402
from cyclr.integrations.keras import Scheduler  # noqa: E402
from keras_probe import INPUTS, TARGETS, probe  # noqa: E402 -- after the check for Keras

# NumPy 2 deprecates the form of __array__ that Keras's variables and some backends' tensors have.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RATE = OneCycle(max_lr=0.1, base_lr=0.01, total_steps=20, stepsize=8)
RECIPE = Recipe(lr=RATE, total_steps=20)
EPOCH = {"x": np.repeat(INPUTS, 8, 0), "y": np.repeat(TARGETS, 8, 0), "batch_size": 1, "verbose": 0}


def iterations(model) -> int:
    return int(keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(model.optimizer.iterations)))


def test_training_stops_after_the_last_update_of_a_recipe() -> None:
    model = probe(keras.optimizers.SGD(1.0, momentum=0.9))
    history = model.fit(**EPOCH, epochs=9, callbacks=[Scheduler(RECIPE)])
    assert (iterations(model), len(history.epoch)) == (20, 3)
    assert history.history["learning_rate"][-1] == pytest.approx(RATE(19))


def test_a_schedule_alone_has_no_end() -> None:
    model = probe(keras.optimizers.SGD(1.0))
    model.fit(**EPOCH, epochs=4, callbacks=[Scheduler(RATE)])
    assert iterations(model) == 32


def test_accumulated_micro_batches_count_as_one_update() -> None:
    model = probe(keras.optimizers.SGD(1.0, gradient_accumulation_steps=3))
    model.fit(**EPOCH, epochs=20, callbacks=[Scheduler(Recipe(lr=RATE, total_steps=7))])
    assert iterations(model) == 7


def test_a_finished_recipe_is_not_gone_on_with() -> None:
    model = probe(keras.optimizers.SGD(1.0))
    model.fit(**EPOCH, epochs=3, callbacks=[Scheduler(RECIPE)])
    with pytest.raises(StateError, match=r"made 20 updates and the recipe ends after 12.*compile"):
        model.fit(**EPOCH, callbacks=[Scheduler(Recipe(lr=RATE, total_steps=12))])


class Crash(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None) -> None:
        if epoch == 1:
            raise InterruptedError


@pytest.mark.parametrize("first", ["backup", "scheduler"])
def test_a_backup_is_gone_on_with_in_any_order_of_callbacks(tmp_path, first) -> None:
    def callbacks():
        backup = keras.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)
        both = [backup, Scheduler(RECIPE)]
        return both if first == "backup" else both[::-1]

    whole = probe(keras.optimizers.SGD(1.0, momentum=0.9))
    whole.fit(**EPOCH, epochs=3, callbacks=[Scheduler(RECIPE)])
    crashed = probe(keras.optimizers.SGD(1.0, momentum=0.9))
    with pytest.raises(InterruptedError):
        crashed.fit(**EPOCH, epochs=3, callbacks=[*callbacks(), Crash()])
    resumed = probe(keras.optimizers.SGD(1.0, momentum=0.9))
    history = resumed.fit(**EPOCH, epochs=3, callbacks=callbacks())
    assert iterations(resumed) == 20
    assert history.history["learning_rate"] == pytest.approx([RATE(15), RATE(19)])
    for one, other in zip(whole.variables, resumed.variables, strict=True):
        assert np.array_equal(
            keras.ops.convert_to_numpy(one.value), keras.ops.convert_to_numpy(other.value)
        )
