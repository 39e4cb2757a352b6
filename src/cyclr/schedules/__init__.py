"""Schedules: frozen specs called with a step, in NumPy, torch and JAX alike."""

from cyclr.schedules.compose import Chain, Clamp, Opposite, Scale, warmup
from cyclr.schedules.cyclical import Cyclical, ExpRange, Triangular, Triangular2
from cyclr.schedules.decay import (
    ExponentialDecay,
    InverseDecay,
    InverseSqrt,
    MultiStep,
    Noam,
    PolynomialDecay,
    Rex,
    StepDecay,
)
from cyclr.schedules.onecycle import OneCycle
from cyclr.schedules.plateau import Knee, SlantedTriangular, WarmupStableDecay
from cyclr.schedules.ramps import Constant, CosineSweep, ExponentialSweep, LinearSweep
from cyclr.schedules.restarts import WarmRestarts
from cyclr.schedules.spec import Schedule, cite, from_dict, from_json, from_toml
from cyclr.schedules.units import Units

__all__ = [
    "Chain",
    "Clamp",
    "Constant",
    "CosineSweep",
    "Cyclical",
    "ExpRange",
    "ExponentialDecay",
    "ExponentialSweep",
    "InverseDecay",
    "InverseSqrt",
    "Knee",
    "LinearSweep",
    "MultiStep",
    "Noam",
    "OneCycle",
    "Opposite",
    "PolynomialDecay",
    "Rex",
    "Scale",
    "Schedule",
    "SlantedTriangular",
    "StepDecay",
    "Triangular",
    "Triangular2",
    "Units",
    "WarmRestarts",
    "WarmupStableDecay",
    "cite",
    "from_dict",
    "from_json",
    "from_toml",
    "warmup",
]
