"""The Keras integration, through the public conformance checks, with what updates really used."""

import random

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the extra keras")

from cyclr.integrations.base import Integration, Interruption  # noqa: E402
from cyclr.integrations.keras import Scheduler, follow, range_test  # noqa: E402
from cyclr.testing import check_integration, check_range_test, check_values, recipes  # noqa: E402
from keras_probe import INPUTS, TARGETS, probe, used  # noqa: E402 -- after the check for Keras

# NumPy 2 deprecates the form of __array__ that Keras's variables and some backends' tensors have.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


class OnBatch(Integration):
    """follow() and train_on_batch()."""

    def __init__(self, folder) -> None:
        self.folder = folder

    def begin(self, recipe) -> None:
        keras.utils.set_random_seed(0)
        self.model = probe(keras.optimizers.SGD(1.0, momentum=0.9))
        follow(self.model, recipe)

    def train(self):
        self.model.train_on_batch(INPUTS, TARGETS)

    def update(self):
        values = used(self.model, self.train)
        return {"lr": values["lr"], "momentum": values["momentum"]}

    def state(self):
        path = self.folder / "model.keras"
        self.model.save(path)
        return path.read_bytes()

    def resume(self, recipe, state) -> None:
        path = self.folder / "resumed.keras"
        path.write_bytes(state)
        self.model = keras.saving.load_model(path)
        follow(self.model, recipe)

    def range_test(self, sweep, *, fail_at=None):
        class Batches:
            def __iter__(self):
                for step in range(100):
                    if step == fail_at:
                        raise Interruption
                    random.random()
                    np.random.rand()
                    yield INPUTS, TARGETS

        return range_test(self.model, Batches(), sweep=sweep)

    def fingerprint(self):
        optimizer = self.model.optimizer
        variables = [*self.model.variables, *optimizer.variables, *self.model.metrics_variables]
        arrays = [keras.ops.convert_to_numpy(variable.value).tolist() for variable in variables]
        settings = (
            float(optimizer.momentum),
            float(optimizer.learning_rate),
            type(optimizer.momentum),
        )
        return (
            [variable.path for variable in variables],
            arrays,
            settings,
            id(self.model.train_function),
            random.getstate(),
            str(np.random.get_state()),
        )


class Fit(OnBatch):
    """A Scheduler in fit(), called again and again: iterations go on from call to call."""

    def begin(self, recipe) -> None:
        keras.utils.set_random_seed(0)
        self.model = probe(keras.optimizers.SGD(1.0, momentum=0.9))
        # fit() stops at a recipe's end, and there are checks of what holds beyond it.
        self.recipe = recipe.replace(total_steps=recipe.total_steps + 9)

    def train(self):
        self.model.fit(INPUTS, TARGETS, verbose=0, callbacks=[Scheduler(self.recipe)])


def test_follow_conforms(tmp_path) -> None:
    check_integration(OnBatch(tmp_path))


@pytest.mark.parametrize("name", ["warm restarts", "one-cycle"])
def test_the_callback_conforms(tmp_path, name) -> None:
    check_values(Fit(tmp_path), recipes()[name], name)


def test_a_range_test_of_an_optimizer_that_follows_nothing_leaves_no_trace(tmp_path) -> None:
    class Plain(OnBatch):
        def begin(self, recipe) -> None:
            keras.utils.set_random_seed(0)
            self.model = probe(keras.optimizers.SGD(0.5, momentum=0.9))

    check_range_test(Plain(tmp_path))


def test_the_probe_sees_a_momentum_that_does_not_arrive(tmp_path) -> None:
    class Attribute(OnBatch):
        """What one would write without knowing that Keras compiles the momentum in."""

        def begin(self, recipe) -> None:
            super().begin(recipe.replace(momentum=None))
            self.recipe = recipe

        def train(self):
            step = int(self.model.optimizer.iterations)
            self.model.optimizer.momentum = self.recipe.momentum(step)
            super().train()

    if keras.backend.backend() == "torch":  # eager: here the attribute is read by every update
        check_values(Attribute(tmp_path), recipes()["one-cycle"])
    else:
        with pytest.raises(AssertionError, match="step 1: momentum used"):
            check_values(Attribute(tmp_path), recipes()["one-cycle"])
