"""Keras 3, on its torch, JAX and TensorFlow backends: schedules, recipes, and a range test.

Keras compiles an optimizer's momentum and weight decay into the train step as numbers; setting the
attribute afterwards changes nothing. What follows a plan here is therefore not set from outside:
rate, momentum and weight decay become functions of the optimizer's own ``iterations``, evaluated
within the update. They are right in every epoch, in several steps per execution and after loading.
"""

from cyclr.extras import require

require("keras", caller="cyclr.integrations.keras", extra="keras")

from cyclr.integrations.keras.callback import Scheduler  # noqa: E402 -- after the check
from cyclr.integrations.keras.follow import follow  # noqa: E402
from cyclr.integrations.keras.learning_rate import LearningRate  # noqa: E402
from cyclr.integrations.keras.range_test import range_test  # noqa: E402

__all__ = ["LearningRate", "Scheduler", "follow", "range_test"]
