"""One recipe, as JSON, drives the same small training in torch, Keras and optax."""

import json

import numpy as np
import pytest

from cyclr import OneCycle, Opposite, Recipe, Triangular2

keras = pytest.importorskip("keras", reason="needs the extra keras")
optax = pytest.importorskip("optax", reason="needs the extra jax")
torch = pytest.importorskip("torch", reason="needs the extra torch")

import jax  # noqa: E402 -- after the checks for the frameworks
import jax.numpy as jnp  # noqa: E402

from cyclr.integrations.keras import follow as follow_in_keras  # noqa: E402
from cyclr.integrations.optax import follow as follow_in_optax  # noqa: E402
from cyclr.integrations.torch import Scheduler  # noqa: E402

# NumPy 2 deprecates the form of __array__ that Keras's variables and some tensors have.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ONE_CYCLE = OneCycle(max_lr=0.2, base_lr=0.02, total_steps=30, stepsize=13)
CYCLES = Triangular2(base_lr=0.01, max_lr=0.2, stepsize=5, cycles=3)
# More weights than examples in a batch: gradients and velocities then point in directions of their
# own, and an update can be solved for both factors with hardly more error than it has itself.
WEIGHTS = 64
INPUTS = np.random.default_rng(0).normal(scale=0.25, size=(30, 8, WEIGHTS)).astype("float32")
TARGETS = INPUTS @ np.linspace(-1.0, 1.0, WEIGHTS, dtype="float32")


def recipe(lr, low):
    momentum = Opposite(schedule=lr, bottom=low, top=0.2, low=0.8, high=0.95)
    return Recipe(lr=lr, momentum=momentum, total_steps=30)


RECIPES = {"one-cycle": recipe(ONE_CYCLE, 0.02), "triangular2": recipe(CYCLES, 0.01)}

# Each training yields, for every update: the weights and velocities before it, and after it. What
# the update used is then worked out from these and the gradient, and from nothing else.


def in_torch(plan):
    weights = torch.nn.Parameter(torch.zeros(WEIGHTS, dtype=torch.float64))
    optimizer = torch.optim.SGD([weights], lr=1.0, momentum=0.5)
    scheduler = Scheduler(optimizer, plan)
    velocity = np.zeros(WEIGHTS)
    for inputs, targets in zip(INPUTS, TARGETS, strict=True):
        before = weights.detach().numpy().copy(), velocity
        optimizer.zero_grad()
        errors = torch.tensor(inputs).double() @ weights - torch.tensor(targets).double()
        errors.square().mean().backward()
        optimizer.step()
        scheduler.step()
        velocity = optimizer.state[weights]["momentum_buffer"].numpy().copy()
        yield before, (weights.detach().numpy().copy(), velocity)


def in_optax(plan):
    with jax.enable_x64(True):
        optimizer = follow_in_optax(optax.sgd, plan)
        weights = jnp.zeros(WEIGHTS)
        state = optimizer.init(weights)

        @jax.jit
        def update(weights, state, inputs, targets):
            slopes = jax.grad(lambda w: ((inputs @ w - targets) ** 2).mean())(weights)
            updates, state = optimizer.update(slopes, state, weights)
            return optax.apply_updates(weights, updates), state

        for inputs, targets in zip(INPUTS, TARGETS, strict=True):
            before = np.asarray(weights), np.asarray(optax.tree_utils.tree_get(state, "trace"))
            weights, state = update(weights, state, inputs.astype(float), targets.astype(float))
            yield (
                before,
                (np.asarray(weights), np.asarray(optax.tree_utils.tree_get(state, "trace"))),
            )


def in_keras(plan):
    settings = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")  # data and rates are of this type,
    keras.config.set_dtype_policy("float64")  # and layers and losses compute in this one
    try:
        model = keras.Sequential(
            [
                keras.Input((WEIGHTS,)),
                keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros"),
            ]
        )
        model.compile(keras.optimizers.SGD(1.0, momentum=0.5), loss="mse")
        follow_in_keras(model, plan)
        model.optimizer.build(model.trainable_variables)
        tracked = model.trainable_variables[0], model.optimizer.momentums[0]

        def now():
            return tuple(np.array(keras.ops.convert_to_numpy(v.value))[:, 0] for v in tracked)

        for inputs, targets in zip(INPUTS, TARGETS, strict=True):
            before = now()
            model.train_on_batch(inputs.astype(float), targets.astype(float)[:, None])
            yield before, now()
    finally:
        keras.config.set_floatx(settings[0])
        keras.config.set_dtype_policy(settings[1])


def used(training, plan):
    """Solve each update for the rate and the momentum that it used."""
    for step, (before, after) in enumerate(training(plan)):
        (weights, velocity), (next_weights, next_velocity) = before, after
        inputs, targets = INPUTS[step].astype(float), TARGETS[step].astype(float)
        slope = 2 * inputs.T @ (inputs @ weights - targets) / len(targets)
        if training is in_keras:  # v ← m·v − lr·g,  w ← w + v
            known = np.stack([velocity, -slope], axis=1)
            momentum, lr = np.linalg.lstsq(known, next_velocity, rcond=None)[0]
        else:  # v ← m·v + g,  w ← w − lr·v
            lr = (weights - next_weights) @ next_velocity / (next_velocity @ next_velocity)
            rest = next_velocity - slope
            momentum = rest @ velocity / (velocity @ velocity) if step else None
        yield lr, momentum if step else None  # without a velocity, a momentum has no effect


@pytest.mark.parametrize("name", RECIPES)
def test_the_same_json_means_the_same_in_every_update(name) -> None:
    text = json.dumps(RECIPES[name].to_dict())
    plan = Recipe.from_dict(json.loads(text))
    due = [(RECIPES[name].values(k)["lr"], RECIPES[name].values(k)["momentum"]) for k in range(30)]
    rates, momenta = zip(*due, strict=True)
    for training in (in_torch, in_keras, in_optax):
        lr, momentum = zip(*used(training, plan), strict=True)
        np.testing.assert_allclose(lr, rates, rtol=1e-6, err_msg=training.__name__)
        np.testing.assert_allclose(momentum[1:], momenta[1:], rtol=1e-6, err_msg=training.__name__)


def test_torch_and_optax_end_at_the_same_weights() -> None:
    ends = [list(training(RECIPES["one-cycle"]))[-1][1][0] for training in (in_torch, in_optax)]
    np.testing.assert_allclose(*ends, rtol=1e-6)
