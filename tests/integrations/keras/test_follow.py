"""Optimizers that follow a plan: what their updates use, whatever Keras compiles."""

import shutil

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the extra keras")

import cyclr  # noqa: E402
from cyclr import Constant, LinearSweep, OneCycle, Opposite, Recipe  # noqa: E402
from cyclr.errors import InputError, SpecError, StateError  # noqa: E402
from cyclr.integrations.keras import LearningRate, Scheduler, follow  # noqa: E402
from keras_probe import INPUTS, TARGETS, probe, used  # noqa: E402 -- after the check for Keras

# NumPy 2 deprecates the form of __array__ that Keras's variables and some backends' tensors have.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BACKEND = keras.backend.backend()
RATE = OneCycle(max_lr=0.1, base_lr=0.01, total_steps=20, stepsize=8)
MOMENTUM = Opposite(schedule=RATE, bottom=0.01, top=0.1, low=0.85, high=0.95)
RECIPE = Recipe(lr=RATE, momentum=MOMENTUM, total_steps=20)
FALLING = LinearSweep(start_lr=0.1, end_lr=0.01, steps=10)


def sgd(**settings):
    return keras.optimizers.SGD(1.0, momentum=0.9, **settings)


def regression(optimizer, **compile_options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(1)]
    )
    model.compile(optimizer, loss="mse", **compile_options)
    return model


def data(rows=32):
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(rows, 4)).astype("float32")
    return inputs, inputs.sum(axis=1, keepdims=True)


def weights(model):
    return [keras.ops.convert_to_numpy(weight.value) for weight in model.trainable_variables]


OPTIMIZERS = {
    "SGD": {"momentum": 0.9},
    "SGD, Nesterov": {"momentum": 0.9, "nesterov": True},
    "RMSprop": {"momentum": 0.9},
    "Adam": {},
    "Adam, AMSGrad": {"amsgrad": True},
    "AdamW": {},
    "Adamax": {},
    "Nadam": {},
    "Lamb": {},
    "Lion": {},
    "Muon": {},
    "ScheduleFreeAdamW": {},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_following_constants_is_being_made_with_them(name) -> None:
    make = getattr(keras.optimizers, name.split(",")[0], None)
    if make is None:
        pytest.skip(f"this version of Keras has no {name}")
    settings = OPTIMIZERS[name]
    key = "momentum" if hasattr(make(0.1), "momentum") else "beta_1"
    made = regression(make(0.01, **{**settings, key: 0.7, "weight_decay": 0.02}))
    followed = regression(make(0.5, **{**settings, "weight_decay": 0.1}))
    recipe = Recipe(
        lr=Constant(value=0.01),
        momentum=Constant(value=0.7),
        weight_decay=Constant(value=0.02),
        total_steps=9,
    )
    if name == "Muon":  # whose share of Adam has a decay of its own
        made.optimizer.adam_weight_decay = 0.02
    follow(followed, recipe)
    for model in (made, followed):
        for _ in range(4):
            model.train_on_batch(*data())
    for ours, theirs in zip(weights(followed), weights(made), strict=True):
        # 1 − momentum loses a digit in float32, where theirs is a Python number.
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def simulated(recipe, steps):
    """The probe's first weight and velocity after some updates, by hand."""
    weight, velocity = 1.0, 0.0
    for step in range(steps):
        values = recipe.values(step)
        velocity = values["momentum"] * velocity - values["lr"]
        weight += velocity
    return weight, velocity


def outcome(model):
    velocity = keras.ops.convert_to_numpy(model.optimizer.momentums[0].value)
    return float(weights(model)[0][0, 0]), float(velocity[0, 0])


def test_fit_over_several_epochs_uses_the_recipe_in_every_update_and_stops_at_its_end() -> None:
    model = probe(sgd())
    inputs, targets = np.repeat(INPUTS, 7, 0), np.repeat(TARGETS, 7, 0)
    history = model.fit(
        inputs, targets, batch_size=1, epochs=9, verbose=0, callbacks=[Scheduler(RECIPE)]
    )
    assert outcome(model) == pytest.approx(simulated(RECIPE, 20), rel=1e-5)
    last = [RECIPE.values(step) for step in (6, 13, 19)]
    assert history.history["learning_rate"] == pytest.approx([v["lr"] for v in last])
    assert history.history["momentum"] == pytest.approx([v["momentum"] for v in last])


@pytest.mark.skipif(BACKEND == "torch", reason="Keras has it on TensorFlow and JAX only")
def test_several_steps_per_execution_use_their_own_values() -> None:
    model = probe(sgd(), steps_per_execution=5)
    inputs, targets = np.repeat(INPUTS, 20, 0), np.repeat(TARGETS, 20, 0)
    model.fit(inputs, targets, batch_size=1, verbose=0, callbacks=[Scheduler(RECIPE)])
    assert outcome(model) == pytest.approx(simulated(RECIPE, 20), rel=1e-5)


def test_accumulated_micro_batches_are_one_step() -> None:
    model = probe(sgd(gradient_accumulation_steps=2))
    follow(model, RECIPE)
    for _ in range(24):
        model.train_on_batch(INPUTS, TARGETS)
    assert outcome(model) == pytest.approx(simulated(RECIPE, 12), rel=1e-5)


def test_inside_a_loss_scale_optimizer() -> None:
    model = probe(keras.optimizers.LossScaleOptimizer(sgd()))
    follow(model, RECIPE)
    for _ in range(12):
        model.train_on_batch(INPUTS, TARGETS)
    model.optimizer.momentums = model.optimizer.inner_optimizer.momentums
    assert outcome(model) == pytest.approx(simulated(RECIPE, 12), rel=1e-5)


@pytest.mark.skipif(
    BACKEND == "torch", reason="torch has no XLA; test_compiled_by_torch is its own"
)
def test_compiled_with_xla() -> None:
    model = probe(sgd(), jit_compile=True)
    follow(model, RECIPE)
    for _ in range(12):
        model.train_on_batch(INPUTS, TARGETS)
    assert outcome(model) == pytest.approx(simulated(RECIPE, 12), rel=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "torch", reason="other backends compile with XLA")
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, as the next
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")
def test_compiled_by_torch_nothing_is_compiled_anew_for_a_step() -> None:
    import torch

    torch._dynamo.reset()
    model = probe(sgd(), jit_compile=True)
    follow(model, RECIPE)
    for step in range(12):
        # The first steps find out what is the same in all of them.
        with torch._dynamo.config.patch(error_on_recompile=step > 3):
            model.train_on_batch(INPUTS, TARGETS)
    assert outcome(model) == pytest.approx(simulated(RECIPE, 12), rel=1e-5)


@pytest.mark.parametrize("initial", [None, 0.3])
def test_weight_decay_follows_also_where_there_was_none(initial) -> None:
    model = probe(sgd(weight_decay=initial))
    recipe = Recipe(lr=Constant(value=0.5), weight_decay=FALLING, total_steps=10)
    follow(model, recipe)
    for step in range(10):
        values = used(model, lambda: model.train_on_batch(INPUTS, TARGETS))
        assert values["decay_times_lr"] == pytest.approx(0.5 * FALLING(step), rel=1e-5)


def test_another_plan_replaces_the_first_also_when_compiled() -> None:
    model = probe(sgd())
    follow(model, RECIPE)
    model.train_on_batch(INPUTS, TARGETS)
    other = Recipe(lr=Constant(value=0.3), momentum=FALLING, total_steps=10)
    assert follow(model, other) is other
    values = used(model, lambda: model.train_on_batch(INPUTS, TARGETS))
    assert (values["lr"], values["momentum"]) == pytest.approx((0.3, FALLING(1)), rel=1e-6)
    follow(model, other.lr)  # a plan without a momentum: back to what the optimizer was made with
    values = used(model, lambda: model.train_on_batch(INPUTS, TARGETS))
    assert (values["lr"], values["momentum"]) == pytest.approx((0.3, 0.9), rel=1e-6)


def test_the_same_plan_again_compiles_nothing() -> None:
    model = probe(sgd())
    follow(model, RECIPE)
    model.train_on_batch(INPUTS, TARGETS)
    function = model.train_function
    follow(model, Recipe.from_dict(RECIPE.to_dict()))
    assert model.train_function is function


def test_what_follows_can_be_read_and_not_set() -> None:
    model = probe(sgd())
    follow(model, RECIPE)
    model.train_on_batch(INPUTS, TARGETS)
    assert float(model.optimizer.momentum) == pytest.approx(MOMENTUM(1))
    assert float(model.optimizer.learning_rate) == pytest.approx(RATE(1))
    with pytest.raises(StateError, match="follow another plan"):
        model.optimizer.momentum.assign(0.5)


def test_a_saved_model_has_the_schedule_and_the_original_momentum(tmp_path) -> None:
    model = regression(sgd())
    model.fit(*data(), batch_size=8, verbose=0, callbacks=[Scheduler(RECIPE)])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.optimizer._learning_rate.schedule == RATE
    assert loaded.optimizer.momentum == 0.9
    for resumed in (model, loaded):
        resumed.fit(*data(), batch_size=8, shuffle=False, verbose=0, callbacks=[Scheduler(RECIPE)])
    for ours, theirs in zip(weights(loaded), weights(model), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


class TestWhatCannotWork:
    def test_a_model_without_an_optimizer(self) -> None:
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        with pytest.raises(InputError, match=r"call model\.compile"):
            follow(model, RECIPE)

    def test_an_optimizer_without_a_momentum(self) -> None:
        model = probe(keras.optimizers.Adagrad(0.1))
        with pytest.raises(SpecError, match="Adagrad has neither momentum nor beta_1"):
            follow(model, RECIPE)
        follow(model, RECIPE.lr)

    @pytest.mark.parametrize("make", [keras.optimizers.SGD, keras.optimizers.RMSprop])
    def test_an_optimizer_made_without_momentum_keeps_no_velocities(self, make) -> None:
        with pytest.raises(SpecError, match=r"make it with momentum=0\.9"):
            follow(probe(make(0.1)), RECIPE)

    def test_a_plan_that_is_none(self) -> None:
        with pytest.raises(SpecError, match="plan must be a cyclr schedule or Recipe"):
            Scheduler(0.1)

    def test_nothing_has_changed_after_an_error(self) -> None:
        model = probe(keras.optimizers.SGD(0.25))
        with pytest.raises(SpecError):
            follow(model, RECIPE)
        assert float(model.optimizer.learning_rate) == 0.25


def test_a_real_training_under_one_cycle() -> None:
    keras.utils.set_random_seed(0)
    inputs = np.random.default_rng(1).normal(size=(512, 2)).astype("float32")
    labels = (inputs[:, 0] * inputs[:, 1] > 0).astype("int32")
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(32, activation="relu"), keras.layers.Dense(2)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(sgd(), loss=loss, metrics=["accuracy"])
    rate = OneCycle(max_lr=0.3, base_lr=0.03, total_steps=16 * 10)
    momentum = Opposite(schedule=rate, bottom=0.03, top=0.3, low=0.85, high=0.95)
    recipe = cyclr.Recipe(lr=rate, momentum=momentum, total_steps=160)
    history = model.fit(
        inputs, labels, batch_size=32, epochs=10, verbose=0, callbacks=[Scheduler(recipe)]
    )
    assert history.history["accuracy"][-1] > 0.85
    assert isinstance(model.optimizer._learning_rate, LearningRate)
