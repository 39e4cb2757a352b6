"""A Keras training whose update shows what it used: read off the velocities, not the settings."""

import keras
import numpy as np


@keras.saving.register_keras_serializable(package="cyclr-tests")
def mean_prediction(_, predictions):
    """A loss that is linear in the weights, so that its gradient is the input."""
    return keras.ops.mean(predictions)


def probe(optimizer, **compile_options):
    """A linear model with three weights and no bias, all of them ones."""
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(1, use_bias=False, kernel_initializer="ones"),
        ]
    )
    model.compile(optimizer, loss=mean_prediction, **compile_options)
    return model


# The gradient is (1, 0, 0). With velocities (0, 1, 0) before an update, SGD leaves
# (−lr, momentum, 0) behind; weight decay shows in the third weight, and in nothing else.
INPUTS = np.array([[1.0, 0.0, 0.0]], dtype="float32")
TARGETS = np.zeros((1, 1), dtype="float32")


def used(model, train):
    """Train for one update and say what it used."""
    optimizer = model.optimizer
    optimizer.build(model.trainable_variables)
    optimizer.momentums[0].assign(np.array([[0.0], [1.0], [0.0]]))
    model.trainable_variables[0].assign(np.ones((3, 1)))
    train()
    velocity = keras.ops.convert_to_numpy(optimizer.momentums[0].value)[:, 0].astype(float)
    weight = keras.ops.convert_to_numpy(model.trainable_variables[0].value)[:, 0].astype(float)
    return {
        "lr": -velocity[0],
        "momentum": velocity[1],
        "decay_times_lr": 1 - weight[2],
    }
