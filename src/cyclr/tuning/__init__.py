"""Weight decay, momentum, batch size and rate, tuned within a budget (arXiv 1803.09820)."""

from cyclr.tuning.budget import Plan
from cyclr.tuning.planning import plan_only
from cyclr.tuning.result import Tuning
from cyclr.tuning.trial import Outcome, Trial, TrialResult
from cyclr.tuning.tune import tune

__all__ = ["Outcome", "Plan", "Trial", "TrialResult", "Tuning", "plan_only", "tune"]
