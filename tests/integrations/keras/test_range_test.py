"""The Keras driver of the range test: what it records, and that it leaves no trace."""

import random

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the extra keras")

from cyclr import ExponentialSweep, Outcome, RangeTest, Triangular  # noqa: E402
from cyclr.errors import DataError, InputError  # noqa: E402
from cyclr.integrations.keras import LearningRate, follow, range_test  # noqa: E402

# NumPy 2 deprecates the form of __array__ that Keras's variables and some backends' tensors have.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SWEEP = ExponentialSweep(start_lr=1e-5, end_lr=1e-2, steps=12)
BACKEND = keras.backend.backend()


def data(rows=64):
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(rows, 4)).astype("float32")
    return inputs, (inputs.sum(axis=1) > 0).astype("int32")


def classifier(optimizer=None):
    """A model with every kind of state: weights, moving averages, seeds, metrics, moments."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(2),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.Adam(1e-3), loss=loss, metrics=["accuracy"])
    return model


def state(model):
    optimizer = model.optimizer
    optimizer.build(model.trainable_variables)
    variables = [*model.variables, *optimizer.variables, *model.metrics_variables]
    return [keras.ops.convert_to_numpy(variable.value).tolist() for variable in variables]


def test_training_afterwards_is_as_if_there_had_been_no_test() -> None:
    results = []
    for with_test in (False, True):
        keras.utils.clear_session()  # so that the global generator begins anew as well
        model = classifier()
        model.fit(*data(), verbose=0)
        keras.random.uniform(())
        if with_test:
            record = range_test(model, *data(), batch_size=16, sweep=SWEEP)
            assert record.outcome is Outcome.COMPLETED
        draws = [random.random(), np.random.rand()]
        draws.append(float(keras.ops.convert_to_numpy(keras.random.uniform(()))))
        history = model.fit(*data(), verbose=0, epochs=2, batch_size=16)
        results.append((state(model), history.history, draws))
    assert results[0] == results[1]


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_first_training_afterwards_is_as_if_there_had_been_no_test(shuffle) -> None:
    results = []
    for with_test in (False, True):
        model = classifier()
        if with_test:
            range_test(model, *data(), batch_size=16, sweep=SWEEP)
        history = model.fit(*data(), verbose=0, epochs=2, batch_size=16, shuffle=shuffle)
        results.append((state(model), history.history))
    assert results[0] == results[1]


def test_a_model_that_was_never_trained_is_as_it_was() -> None:
    model, other = classifier(), classifier()
    range_test(model, *data(), batch_size=16, sweep=SWEEP)
    assert state(model) == state(other)


def test_the_record_says_what_was_run() -> None:
    model = classifier(keras.optimizers.AdamW(1e-3, beta_1=0.8, weight_decay=0.01))
    record = range_test(model, *data(), batch_size=16, sweep=SWEEP)
    assert record.optimizer == {"name": "AdamW", "momentum": 0.8, "weight_decay": 0.01}
    assert record.steps_per_epoch == 4
    assert record.lr == pytest.approx([SWEEP(step) for step in range(12)])
    assert len(record.metrics["accuracy"].values) == 12


@pytest.mark.parametrize(("batch_size", "updates"), [(16, 4), (15, 5), (63, 2), (64, 1), (100, 1)])
def test_an_epoch_has_as_many_updates_as_fit_makes(batch_size: int, updates: int) -> None:
    model = classifier()
    model.fit(*data(), batch_size=batch_size, verbose=0)
    record = range_test(model, *data(), batch_size=batch_size, sweep=SWEEP)
    assert record.steps_per_epoch == int(model.optimizer.iterations) == updates


def held(model):
    """Measure the validation loss by evaluate, as users do."""
    generator = np.random.default_rng(1)
    inputs = generator.normal(size=(32, 4)).astype("float32")
    found = model.evaluate(inputs, (inputs.sum(axis=1) > 0).astype("int32"), verbose=0)
    return {"val_loss": float(found[0]), "val_accuracy": float(found[1])}


@pytest.mark.parametrize(("rows", "every", "steps"), [(64, 5, (0, 5, 10)), (32, None, range(12))])
def test_a_validation_is_measured_before_updates(rows, every, steps) -> None:
    model = classifier()
    loss = held(model)["val_loss"]
    before = state(model)
    plain = range_test(model, *data(rows), batch_size=16, sweep=SWEEP)
    record = range_test(
        model, *data(rows), batch_size=16, sweep=SWEEP, validate=held, validate_every=every
    )
    assert record.loss == pytest.approx(plain.loss, rel=1e-5)  # it changes nothing
    for name in ("val_loss", "val_accuracy"):
        assert record.metrics[name].steps == tuple(steps)
    assert record.metrics["val_loss"].values[0] == pytest.approx(loss, rel=1e-5)
    assert record.read().metric == ("val_loss" if every is None else None)
    assert state(model) == before
    assert model.predict(data(rows)[0], verbose=0).shape == (rows, 2)


def test_a_model_fresh_from_compile_can_be_evaluated_within_and_afterwards() -> None:
    """The graph of an evaluation knows the metrics that it built, which are put back unbuilt."""
    model = classifier(keras.optimizers.SGD(0.1, momentum=0.9))
    before = state(model)
    record = range_test(model, *data(), validate=held)
    assert len(record.scout.lr) > 0
    assert set(record.metrics) == {"accuracy", "val_loss", "val_accuracy"}
    assert state(model) == before
    assert held(model) == held(classifier())


def test_of_a_scout_only_the_first_update_is_validated() -> None:
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    seen = []

    def validate(_):
        seen.append(len(seen))
        return {"val_loss": 1.0}

    record = range_test(classifier(optimizer), *data(), validate=validate)
    assert len(record.scout.lr) > 1
    assert len(seen) == 1 + len(record.metrics["val_loss"].steps)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"validate": lambda _: 0.3}, "what validate gave must be a mapping of metrics"),
        ({"validate": lambda _: {"loss": 0.3}}, "name it val_loss"),
        ({"validate": lambda _: {"accuracy": 0.3}}, "update and validate both gave 'accuracy'"),
        ({"validate": 3}, "validate must be a function, got 3"),
        ({"validate_every": 3}, "validate_every needs validate"),
        (
            {"validate": held, "validate_every": 0},
            "validate_every must be an int ≥ 1 or None, got 0",
        ),
    ],
)
def test_a_validation_that_cannot_be_made_is_refused(options, words: str) -> None:
    model, other = classifier(), classifier()
    with pytest.raises(ValueError, match=words):
        range_test(model, *data(), sweep=SWEEP, **options)
    assert state(model) == state(other)


def test_losses_are_each_batch_s_own() -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), loss="mse")
    inputs, _ = data()
    batches = [(inputs, np.full((64, 1), target)) for target in (1.0, 5.0)]
    still = ExponentialSweep(start_lr=1e-12, end_lr=1e-11, steps=10)
    losses = range_test(model, batches, sweep=still).loss
    for first, batch in enumerate(batches):  # nothing is learned: the two take turns
        loss = float(model.test_on_batch(*batch))
        assert losses[first::2] == pytest.approx([loss] * 5, rel=1e-5)


def test_the_sweep_s_rates_are_used_and_divergence_is_seen() -> None:
    model = classifier(keras.optimizers.SGD(0.1, momentum=0.9))
    record = range_test(model, *data(), batch_size=16, steps=60)
    assert record.outcome in (Outcome.DIVERGED, Outcome.NON_FINITE)
    assert record.lr[-1] > 0.01


class Checked(keras.layers.Layer):
    """Raises at NaN, as code that checks does."""

    def call(self, inputs):
        # Of a size at which the loss is still finite.
        if not (np.abs(keras.ops.convert_to_numpy(inputs)) < 1e15).all():
            raise ValueError("the activations are not finite")
        return inputs


def test_a_step_that_raises_at_nan_ends_the_test_with_a_note() -> None:
    if BACKEND != "torch":
        pytest.skip("only torch runs layers eagerly")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2), Checked()])
    model.compile(keras.optimizers.SGD(0.1), loss="mse")
    before = state(model)
    wild = ExponentialSweep(start_lr=1e-2, end_lr=1e20, steps=40)
    test = RangeTest(wild, stop_on_divergence=False)
    record = range_test(model, data()[0], np.ones((64, 2)), sweep=test)
    assert record.outcome is Outcome.NON_FINITE
    assert "raised ValueError" in record.notes[0]
    assert "the activations are not finite Arguments" in record.notes[0]  # without colours
    assert state(model) == before


def test_a_scout_goes_ahead_under_sgd_from_the_same_weights() -> None:
    keras.utils.set_random_seed(0)
    # No Dropout: rows come in another order each time, and other rows would be dropped.
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss=loss)
    before, seen = state(model), []
    test = RangeTest()
    watch = lambda test: seen.append((test.is_scouting, test.record.loss[0]))  # noqa: E731
    record = range_test(model, *data(), batch_size=64, sweep=test, on_step=watch)
    assert [scouting for scouting, _ in seen] == sorted((s for s, _ in seen), reverse=True)
    assert len(record.scout.lr) == sum(scouting for scouting, _ in seen) > 10
    assert record.updates == len(seen) <= 150
    assert record.loss[0] == pytest.approx(record.scout.loss[0], rel=1e-6)
    assert state(model) == before


def test_a_range_that_began_too_high_begins_again_lower() -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), loss=lambda y, out: 1e12 * (y - out) ** 2)
    before = state(model)
    record = range_test(model, data()[0], np.ones((64, 1)))
    assert "began again from 1e-13" in record.notes[0]
    assert record.read().max_lr < 1e-10
    assert state(model) == before


def test_a_test_to_watch_learns_what_it_is_run_with() -> None:
    record = range_test(classifier(), *data(), batch_size=16, sweep=RangeTest(SWEEP))
    assert (record.optimizer["name"], record.optimizer["momentum"]) == ("Adam", 0.9)
    assert record.steps_per_epoch == 4


@pytest.mark.parametrize("optimizer", ["schedule", "followed"])
def test_an_optimizer_under_a_schedule_can_be_tested(optimizer) -> None:
    schedule = Triangular(base_lr=0.1, max_lr=0.2, stepsize=5)
    if optimizer == "schedule":
        model = classifier(keras.optimizers.SGD(LearningRate(schedule), momentum=0.9))
    else:
        model = classifier(keras.optimizers.SGD(1.0, momentum=0.9))
        follow(model, schedule)
    model.train_on_batch(*data())
    before, function = state(model), model.train_function
    range_test(model, *data(), batch_size=16, sweep=SWEEP)
    assert state(model) == before
    assert model.train_function is function
    assert float(keras.ops.convert_to_tensor(model.optimizer.learning_rate)) == pytest.approx(
        schedule(1)
    )


def test_an_exception_leaves_no_trace_and_the_record_can_be_had() -> None:
    model = classifier()
    model.train_on_batch(*data())
    before = state(model)
    test = RangeTest(SWEEP)

    def interrupt(test):
        if test.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        range_test(model, *data(), sweep=test, on_step=interrupt)
    assert state(model) == before
    assert (len(test.record), test.record.outcome) == (5, Outcome.INTERRUPTED)
    # Keras must not bring back what was left of the interrupted step.
    model.evaluate(*data(), verbose=0)
    own = len(model.variables)
    assert state(model)[:own] == before[:own]


def test_gradients_and_modes_of_a_torch_model_are_put_back() -> None:
    if BACKEND != "torch":
        pytest.skip("only torch keeps gradients and modes on the model")
    model = classifier()
    model.eval()
    range_test(model, *data(), sweep=SWEEP)
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_tensorflow_s_global_generator_is_put_back() -> None:
    if BACKEND != "tensorflow":
        pytest.skip("TensorFlow is not loaded")
    import tensorflow as tf

    class Batches:
        def __iter__(self):
            tf.random.get_global_generator().uniform(())
            yield data()

    draws = []
    for with_test in (False, True):
        model = classifier()
        tf.random.set_global_generator(tf.random.Generator.from_seed(3))
        if with_test:
            range_test(model, Batches(), sweep=SWEEP)
        draws.append(float(tf.random.get_global_generator().uniform(())))
    assert draws[0] == draws[1]


class TestData:
    def test_a_py_dataset(self) -> None:
        class Indexed(keras.utils.PyDataset):
            def __len__(self):
                return 3

            def __getitem__(self, index):
                inputs, targets = data()
                return inputs[index::3], targets[index::3]

        record = range_test(classifier(), Indexed(), sweep=SWEEP)
        assert (len(record), record.steps_per_epoch) == (12, 3)

    def test_sample_weights(self) -> None:
        inputs, targets = data()
        batches = [(inputs, targets, np.zeros(64, dtype="float32"))]
        assert set(range_test(classifier(), batches, sweep=SWEEP).loss) == {0.0}

    def test_an_iterator_is_refused(self) -> None:
        with pytest.raises(DataError, match="iterator"):
            range_test(classifier(), iter([data()]), sweep=SWEEP)

    def test_arrays_without_targets_are_refused(self) -> None:
        inputs, targets = data()
        with pytest.raises(InputError, match="y is missing: x is an array"):
            range_test(classifier(), inputs, sweep=SWEEP)
        with pytest.raises(InputError, match="x is a tuple of 2 arrays and y is missing"):
            range_test(classifier(), (inputs, targets), sweep=SWEEP)

    def test_a_model_with_a_loss_of_its_own_needs_no_targets(self) -> None:
        class Norm(keras.Sequential):
            def compute_loss(self, x=None, y=None, y_pred=None, *_, **__):
                return keras.ops.mean(y_pred**2)

        model = Norm([keras.Input((4,)), keras.layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.1))
        assert len(range_test(model, data()[0], batch_size=16, sweep=SWEEP)) == 12

    def test_nothing_at_all_is_refused(self) -> None:
        with pytest.raises(DataError, match="not a single batch"):
            range_test(classifier(), [], sweep=SWEEP)

    def test_arrays_must_be_equally_long(self) -> None:
        inputs, targets = data()
        with pytest.raises(DataError, match="equally long"):
            range_test(classifier(), inputs, targets[:-1], sweep=SWEEP)


class TestWhatCannotWork:
    def test_a_model_that_is_not_built(self) -> None:
        model = keras.Sequential([keras.layers.Dense(2)])
        model.compile("sgd", loss="mse")
        with pytest.raises(InputError, match=r"model\.build"):
            range_test(model, *data(), sweep=SWEEP)

    def test_accumulated_gradients(self) -> None:
        model = classifier(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2))
        with pytest.raises(InputError, match="gradient_accumulation_steps=None"):
            range_test(model, *data(), sweep=SWEEP)

    def test_steps_with_a_sweep(self) -> None:
        with pytest.raises(InputError, match="default sweep"):
            range_test(classifier(), *data(), sweep=SWEEP, steps=9)
