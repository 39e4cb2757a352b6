"""Everything a train step of Keras touches, remembered and put back."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.src.backend.common import global_state  # it has no public name

from cyclr.integrations.host import host_random


@contextmanager
def restored(model: Any, batches: Any) -> Iterator[None]:
    """Put back all that a train step touches, however the block is left."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    # Copies: JAX gives views of buffers, which a train step donates.
    saved = [(variable, np.array(ops.convert_to_numpy(variable.value))) for variable in variables]
    # Parts that fit has yet to build, for which it draws a batch: it must do so afterwards as well.
    unbuilt = [part for part in _compiled_parts(model) if not part.built]
    attributes = [_attributes(part) for part in unbuilt]
    functions = model.train_function, model.test_function  # a validation may evaluate
    is_torch = keras.backend.backend() == "torch"
    with host_random(batches, *([model] if is_torch else [])), _keras_random():
        try:
            yield
        finally:
            if hasattr(model, "_jax_state"):
                # What is left of an interrupted step must not be written over what is put back.
                model._jax_state, model._jax_state_synced = None, True
            model.reset_metrics()  # for those that only came into being with the first batch
            for variable, value in saved:
                variable.assign(value)
            for part, before in zip(unbuilt, attributes, strict=True):
                vars(part).clear()
                vars(part).update(before)
            model.train_function, model.test_function = functions


def _compiled_parts(model: Any) -> list[Any]:
    """List what compile() makes and the first batch builds: the loss, and the metrics."""
    parts = (model._compile_loss, model._compile_metrics)
    return [part for part in parts if part is not None]


def _attributes(part: Any) -> dict[str, Any]:
    """Copy a part's attributes, its lists too: building appends to those."""
    return {name: copy.copy(v) if isinstance(v, list) else v for name, v in vars(part).items()}


@contextmanager
def _keras_random() -> Iterator[None]:
    """Put back Keras's and TensorFlow's global generators; JAX has none."""
    generator = global_state.get_global_attribute("global_seed_generator")
    seed = None if generator is None else np.array(ops.convert_to_numpy(generator.state.value))
    # Through sys.modules: a framework that nothing has loaded has no state, and stays unloaded.
    stateful = sys.modules.get("tensorflow.python.ops.stateful_random_ops")
    tf_generator = getattr(stateful, "global_generator", None)
    tf_state = None if tf_generator is None else tf_generator.state.numpy()
    try:
        yield
    finally:
        global_state.set_global_attribute("global_seed_generator", generator)
        if generator is not None:
            generator.state.assign(seed)
        if tf_generator is not None:
            tf_generator.state.assign(tf_state)
