"""The optax integration: through the conformance checks, traced, and in a real small training."""

import copy
import random

import numpy as np
import pytest
from hypothesis import given, settings

from strategies import schedules

optax = pytest.importorskip("optax", reason="needs the extra jax")
jax = pytest.importorskip("jax", reason="needs the extra jax")

import jax.numpy as jnp  # noqa: E402 -- after the checks for JAX and optax

import cyclr  # noqa: E402
from cyclr import Constant, ExponentialSweep, LinearSweep, Recipe  # noqa: E402
from cyclr.errors import DataError, InputError, SpecError  # noqa: E402
from cyclr.integrations.base import Integration, Interruption  # noqa: E402
from cyclr.integrations.optax import as_optax, follow, range_test  # noqa: E402
from cyclr.rangetest import Outcome, RangeTest  # noqa: E402
from cyclr.testing import check_integration, recipes  # noqa: E402

SWEEP = ExponentialSweep(start_lr=1e-4, end_lr=1e-2, steps=8)


class Sgd(Integration):
    """What an update used is read off the velocity: gradient (1, 0), velocity (0, 1) before."""

    def make(self, recipe):
        return follow(optax.sgd, recipe)

    def begin(self, recipe) -> None:
        # Plans without a momentum still need a velocity for the probe to read.
        if recipe.momentum is None:
            recipe = recipe.replace(momentum=Constant(value=0.9))
        self.optimizer = self.make(recipe)
        self.weights = jnp.ones(2)
        self.opt_state = self.optimizer.init(self.weights)
        self.jitted = jax.jit(self.optimizer.update)

    def update(self):
        set_trace = optax.tree_utils.tree_set(self.opt_state, trace=jnp.array([0.0, 1.0]))
        updates, self.opt_state = self.jitted(jnp.array([1.0, 0.0]), set_trace, self.weights)
        self.weights = optax.apply_updates(self.weights, updates)
        velocity = optax.tree_utils.tree_get(self.opt_state, "trace")
        # The update is −lr · velocity with the velocity (gradient, momentum).
        lr = -float(updates[0])
        return {"lr": lr, "momentum": float(velocity[1])}

    def state(self):
        return jax.device_get(self.opt_state)

    def resume(self, recipe, state) -> None:
        self.begin(recipe)
        self.opt_state = jax.tree.map(jnp.asarray, copy.deepcopy(state))

    def range_test(self, sweep, *, fail_at=None):
        @jax.jit
        def update(state, batch, lr):
            weights, opt_state = state
            loss, slopes = jax.value_and_grad(lambda w: ((w - batch) ** 2).mean())(weights)
            _, opt_state = self.optimizer.update(slopes, opt_state, weights)
            return (weights - lr * slopes, opt_state), loss

        # Donated on purpose: the state passed in must stay usable.
        donating = jax.jit(update, donate_argnums=0)

        class Batches:
            def __iter__(self):
                for step in range(100):
                    if step == fail_at:
                        raise Interruption
                    random.random()
                    np.random.rand()
                    yield jnp.zeros(2)

        return range_test(donating, (self.weights, self.opt_state), Batches(), sweep=sweep)

    def fingerprint(self):
        state = jax.device_get((self.weights, self.opt_state))
        return str(state), random.getstate(), str(np.random.get_state())


def test_sgd_conforms() -> None:
    check_integration(Sgd())


def test_in_a_chain_it_conforms() -> None:
    class Chained(Sgd):
        def make(self, recipe):
            return optax.chain(optax.clip_by_global_norm(10.0), follow(optax.sgd, recipe))

    check_integration(Chained())


def test_the_values_are_found_in_a_chain() -> None:
    recipe = recipes()["one-cycle"]
    optimizer = optax.chain(optax.clip_by_global_norm(10.0), follow(optax.sgd, recipe))
    _, state = optimizer.update(jnp.ones(3), optimizer.init(jnp.ones(3)), jnp.ones(3))
    found = optax.tree_utils.tree_get(state, "hyperparams")
    assert float(found["learning_rate"]) == pytest.approx(recipe.lr(0))
    assert float(found["momentum"]) == pytest.approx(recipe.momentum(0))


class TestSchedules:
    @given(schedule=schedules())
    @settings(max_examples=30, deadline=None)
    def test_every_schedule_traces_and_means_the_same(self, schedule) -> None:
        rate = as_optax(schedule)
        steps = [0, 1, 2, 7, 19, 20, 21, 60, 300]
        due = np.array([schedule(step) for step in steps])
        traced = jax.jit(jax.vmap(rate))(jnp.array(steps, dtype=jnp.int32))
        assert traced.dtype == jnp.float32
        np.testing.assert_allclose(traced, due, rtol=2e-5, atol=2e-5 * max(abs(due)))
        # float32 has nothing between zero and 1e-45.
        np.testing.assert_allclose(
            [float(rate(step)) for step in steps], due, rtol=1e-6, atol=1e-37
        )

    def test_in_a_scan(self) -> None:
        schedule = recipes()["chain"].lr
        rate = as_optax(schedule)
        _, values = jax.lax.scan(lambda count, _: (count + 1, rate(count)), 0, length=30)
        np.testing.assert_allclose(values, schedule(np.arange(30)), rtol=1e-6, atol=1e-9)

    def test_in_optax_s_own_places(self) -> None:
        schedule = cyclr.Triangular(base_lr=0.1, max_lr=0.2, stepsize=3)
        optimizer = optax.sgd(as_optax(schedule))
        state = optimizer.init(jnp.zeros(()))
        for step in range(8):
            update, state = optimizer.update(jnp.ones(()), state)
            assert float(update) == pytest.approx(-schedule(step), rel=1e-6)

    def test_a_negative_count_and_no_schedule_are_refused(self) -> None:
        with pytest.raises(SpecError, match="step must be"):
            as_optax(Constant(value=1.0))(-1)
        with pytest.raises(SpecError, match="schedule must be a cyclr schedule"):
            as_optax(0.1)


class TestFollow:
    @pytest.mark.parametrize(
        ("make", "argument"),
        [
            (optax.sgd, "momentum"),
            (optax.rmsprop, "momentum"),
            (optax.adam, "b1"),
            (optax.adamw, "b1"),
            (optax.nadam, "b1"),
            (optax.adamax, "b1"),
            (optax.lion, "b1"),
            (optax.lamb, "b1"),
            (optax.radam, "b1"),
        ],
    )
    def test_following_constants_is_being_made_with_them(self, make, argument) -> None:
        recipe = Recipe(lr=Constant(value=0.01), momentum=Constant(value=0.7), total_steps=9)
        ours, theirs = follow(make, recipe), make(0.01, **{argument: 0.7})
        weights = jnp.array([1.0, -2.0, 3.0])
        states = [ours.init(weights), theirs.init(weights)]
        both = [weights, weights]
        for _ in range(4):
            for i, optimizer in enumerate((ours, theirs)):
                update, states[i] = optimizer.update(2 * both[i], states[i], both[i])
                both[i] = optax.apply_updates(both[i], update)
        np.testing.assert_allclose(*both, rtol=1e-5)

    def test_weight_decay_is_followed_and_other_arguments_are_passed_on(self) -> None:
        decay = LinearSweep(start_lr=0.1, end_lr=0.5, steps=5)
        recipe = Recipe(lr=Constant(value=0.5), weight_decay=decay, total_steps=5)
        weights = {"kernel": jnp.ones(()), "bias": jnp.ones(())}
        mask = lambda tree: {name: name == "kernel" for name in tree}  # noqa: E731 -- an argument
        optimizer = follow(optax.adamw, recipe, mask=mask, b2=0.95)
        state = optimizer.init(weights)
        for step in range(5):
            zeros = jax.tree.map(jnp.zeros_like, weights)
            updates, state = optimizer.update(zeros, state, weights)
            assert float(updates["kernel"]) == pytest.approx(-0.5 * decay(step), rel=1e-6)
            assert float(updates["bias"]) == 0
            assert float(state.hyperparams["weight_decay"]) == pytest.approx(decay(step))
        assert set(state.hyperparams) == {"learning_rate", "weight_decay"}

    @pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
    def test_in_a_scan_with_the_state_carried(self, dtype) -> None:
        recipe = recipes()["one-cycle"]
        # As with optax's own schedules, a half-precision velocity needs its type named.
        optimizer = follow(optax.sgd, recipe, accumulator_dtype=dtype)
        weights = jnp.ones(3, dtype)

        @jax.jit
        def train(weights, state):
            def one(carry, _):
                weights, state = carry
                updates, state = optimizer.update(2 * weights, state, weights)
                return (optax.apply_updates(weights, updates), state), state.hyperparams

            return jax.lax.scan(one, (weights, state), length=20)

        (weights, _), used = train(weights, optimizer.init(weights))
        assert weights.dtype == dtype
        for key, name in (("lr", "learning_rate"), ("momentum", "momentum")):
            due = recipe.schedules[key](np.arange(20))
            np.testing.assert_allclose(used[name], due, rtol=1e-6)

    def test_what_cannot_be_followed_is_named(self) -> None:
        recipe = recipes()["one-cycle"]
        with pytest.raises(SpecError, match="adagrad has no argument momentum or b1"):
            follow(optax.adagrad, recipe)
        with pytest.raises(SpecError, match="sgd has no argument weight_decay"):
            follow(optax.sgd, recipe.replace(momentum=None, weight_decay=Constant(value=0.1)))
        with pytest.raises(SpecError, match="momentum is both scheduled and given as fixed"):
            follow(optax.sgd, recipe, momentum=0.9)
        with pytest.raises(SpecError, match="plan must be a cyclr schedule or Recipe"):
            follow(optax.sgd, 0.1)
        with pytest.raises(SpecError, match="has no argument learning_rate"):
            follow(optax.scale_by_adam, recipe)


def logistic():
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(256, 4)).astype("float32")
    labels = (inputs @ np.array([1.0, -2.0, 3.0, 0.5]) > 0).astype("float32")
    return [(inputs[i : i + 32], labels[i : i + 32]) for i in range(0, 256, 32)]


def loss_of(weights, batch):
    inputs, labels = batch
    return optax.sigmoid_binary_cross_entropy(inputs @ weights, labels).mean()


class TestValidation:
    """``validate`` sees the state that the next update begins with."""

    def _run(self, **options):
        step = jax.jit(lambda weights, batch, lr: self._step(weights, batch, lr), donate_argnums=0)
        return range_test(step, jnp.zeros(4), logistic(), **options)

    def _step(self, weights, batch, lr):
        loss, slopes = jax.value_and_grad(loss_of)(weights, batch)
        return weights - lr * slopes, loss

    def test_it_is_measured_before_updates(self) -> None:
        seen = []

        def validate(weights):
            seen.append(np.asarray(weights))
            return {"val_loss": loss_of(weights, logistic()[0]), "val_size": (weights**2).sum()}

        record = self._run(sweep=SWEEP, validate=validate, validate_every=3)
        assert record.loss == self._run(sweep=SWEEP).loss
        assert record.metrics["val_loss"].steps == (0, 3, 6)
        assert not seen[0].any()
        first = self._step(jnp.zeros(4), logistic()[0], SWEEP(0))[0]
        one = self._run(sweep=SWEEP, validate=validate, validate_every=1)
        assert one.metrics["val_size"].values[1] == pytest.approx(float((first**2).sum()))

    def test_and_read_where_the_data_are_few(self) -> None:
        optimizer = {"name": "sgd", "momentum": 0.0}
        validate = lambda weights: {"val_loss": float((weights**2).sum()) + 1.0}  # noqa: E731
        record = self._run(optimizer=optimizer, validate=validate)
        assert record.steps_per_epoch == 8
        assert len(record.metrics["val_loss"].steps) == len(record)
        assert len(record.scout.lr) > 0
        seldom = self._run(optimizer=optimizer, validate=validate, validate_every=3)
        assert seldom.read().metric is None

    def test_what_is_no_validation_is_refused(self) -> None:
        for options, words in (
            ({"validate": lambda _: 0.3}, "must be a mapping of metrics"),
            ({"validate": 3}, "validate must be a function, got 3"),
            ({"validate_every": 3}, "validate_every needs validate"),
        ):
            with pytest.raises(InputError, match=words):
                self._run(sweep=SWEEP, **options)


def test_a_real_training_from_range_test_to_one_cycle() -> None:
    batches = logistic()
    tested = optax.inject_hyperparams(optax.sgd)(learning_rate=0.0, momentum=0.9)

    @jax.jit
    def step(state, batch, lr):
        weights, opt_state = state
        loss, slopes = jax.value_and_grad(loss_of)(weights, batch)
        opt_state = optax.tree_utils.tree_set(opt_state, learning_rate=lr)
        updates, opt_state = tested.update(slopes, opt_state, weights)
        return (optax.apply_updates(weights, updates), opt_state), loss

    weights = jnp.zeros(4)
    state = (weights, tested.init(weights))
    facts = {"name": "sgd", "momentum": 0.9}
    record = range_test(step, state, batches, steps=80, optimizer=facts)
    assert step._cache_size() == 1  # the rate did not make it compile anew
    recipe = cyclr.plan(record.read(), total_steps=80)
    assert recipe.momentum is not None
    optimizer = follow(optax.sgd, recipe)

    @jax.jit
    def train(weights, opt_state, batch):
        loss, slopes = jax.value_and_grad(loss_of)(weights, batch)
        updates, opt_state = optimizer.update(slopes, opt_state, weights)
        return optax.apply_updates(weights, updates), opt_state, loss

    opt_state = optimizer.init(weights)
    for k in range(80):
        weights, opt_state, loss = train(weights, opt_state, batches[k % 8])
    assert float(loss) < 0.2


class TestRangeTest:
    @staticmethod
    def step(state, batch, lr):
        return state + lr, state**2

    def test_numpy_states_and_other_leaves_are_fine(self) -> None:
        def in_place(state, batch, lr):
            state["weights"] += lr
            return state, 1.0

        state = {"weights": np.zeros(2), "name": "mine"}
        record = range_test(in_place, state, [None], sweep=SWEEP)
        assert record.outcome is Outcome.COMPLETED
        assert state["weights"].tolist() == [0.0, 0.0]

    def test_progress_and_the_record_of_an_interrupted_test(self) -> None:
        test = RangeTest(SWEEP)

        def stop(test):
            if test.step == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            range_test(self.step, jnp.zeros(()), [0], sweep=test, on_step=stop)
        assert (len(test.record), test.record.outcome) == (3, Outcome.INTERRUPTED)

    def test_data_that_cannot_be_gone_through_again(self) -> None:
        for batches, match in ((iter([0]), "iterator"), ([], "single batch"), (3, "re-iterable")):
            with pytest.raises(DataError, match=match):
                range_test(self.step, jnp.zeros(()), batches, sweep=SWEEP)

    def test_a_step_of_another_form(self) -> None:
        with pytest.raises(InputError, match=r"\(state, loss\)"):
            range_test(lambda state, batch, lr: state, jnp.zeros(()), [0], sweep=SWEEP)

    def test_a_step_that_raises_at_nan_ends_the_test_with_a_note(self) -> None:
        def checked(state, batch, lr):
            state = state - lr * 1e3 * state**3
            return state, jnp.linalg.norm(state)

        wild = ExponentialSweep(start_lr=1e-2, end_lr=1e3, steps=40)
        test = RangeTest(wild, stop_on_divergence=False)
        with jax.debug_nans(True):
            record = range_test(jax.jit(checked), jnp.ones(3), [0], sweep=test)
        assert record.outcome is Outcome.NON_FINITE
        assert "raised FloatingPointError" in record.notes[0]

    @pytest.mark.parametrize("error", [KeyError("nan"), RuntimeError("wrong shapes")])
    def test_mistakes_in_a_step_come_through(self, error) -> None:
        def broken(state, batch, lr):
            if lr > SWEEP(0):
                raise error
            return state, 1.0

        with pytest.raises(type(error)):
            range_test(broken, jnp.zeros(()), [0], sweep=SWEEP)

    def test_a_range_that_began_too_high_begins_again_lower(self) -> None:
        def steep(state, batch, lr):
            return state - lr * 1e11 * state, 0.5 * jnp.sum(state**2)

        record = range_test(steep, jnp.ones(3), [0])
        assert "began again from 1e-13" in record.notes[0]
        assert 1e-12 < record.read().max_lr < 1e-10

    @pytest.mark.parametrize("name", ["sgd", "adam"])
    def test_a_scout_goes_ahead_under_sgd_from_the_same_state(self, name: str) -> None:
        def square(state, batch, lr):
            return state - lr * 2 * state, jnp.sum(state**2)

        record = range_test(square, jnp.ones(3), [0], optimizer={"name": name})
        assert bool(record.scout.lr) == (name == "sgd")
        first = record.scout.loss[0] if record.scout.loss else record.loss[0]
        assert first == record.loss[0] == 3.0
        assert record.updates <= 150

    def test_a_test_to_watch_learns_what_it_is_run_with(self) -> None:
        test = RangeTest(SWEEP)
        facts = {"name": "sgd", "momentum": 0.9}
        record = range_test(self.step, jnp.zeros(()), [0, 1], sweep=test, optimizer=facts)
        assert (record.optimizer, record.steps_per_epoch) == (facts, 2)

    def test_steps_with_a_sweep(self) -> None:
        with pytest.raises(InputError, match="default sweep"):
            range_test(self.step, jnp.zeros(()), [0], sweep=SWEEP, steps=5)
