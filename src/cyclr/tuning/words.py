"""What a tune found, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from cyclr.figures import show
from cyclr.tuning.choose import Choice, scaling
from cyclr.tuning.request import Request
from cyclr.tuning.table import show_decay, show_momentum
from cyclr.tuning.trial import Momentum, TrialResult

_CUT = 0.9  # of the training: a run shorter than that is a short one
_RISE = 0.1  # of the lowest validation loss, that is no longer level
_GAP = 0.1  # of the training loss: a validation loss within it is about as low


def paragraph(
    request: Request,
    own: TrialResult | None,
    winner: TrialResult,
    choices: Sequence[Choice],
    noise: float | None,
    within: float,
) -> str:
    """Word what was found: what won, by how much, and what the winner's curve says.

    Args:
        request: What was asked for.
        own: The trial of the task's own settings that is as long as the winner; None if none is.
        winner: The trial that the recipe is made from.
        choices: What each stage came to.
        noise: Measured relative noise; None if it was not measured.
        within: The relative tolerance.
    """
    chance = within if noise is None else max(noise, within)
    sentences = [
        against_own(own, winner, chance),
        noise_words(noise, within),
        *(_choice(choice, chance) for choice in choices),
        fit_words(winner.curve, within, cut=winner.updates < _CUT * request.run),
        share_words(winner.trial.examples, request.facts.examples),
        batch_words(request, choices),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def notes(choices: Sequence[Choice]) -> tuple[str, ...]:
    """Word for a recipe why it is what it is."""
    back = [c.stage == "own settings" and c.after is not c.before for c in choices]
    return tuple(_note(choice, any(back[i + 1 :])) for i, choice in enumerate(choices))


def _note(choice: Choice, back: bool) -> str:
    losses = [(_value(choice.stage, result), _loss(result)) for result in choice.tried]
    told = ", ".join(f"{loss} for {value}" for value, loss in losses)
    length = f"validation loss after {length_words(choice.before)}"
    chosen = _value(choice.stage, choice.after)
    if choice.stage == "own settings":
        return f"Beside the task's own settings, {length}: {told}."
    taken = ", taken back in longer runs" if back and choice.after is not choice.before else ""
    return f"{choice.stage.capitalize()} {chosen}{taken}; {length}: {told}."


def against_own(own: TrialResult | None, winner: TrialResult, chance: float) -> str:
    """Compare the winner with the task's own settings."""
    settings = (
        f"weight decay {show_decay(winner.trial.weight_decay)}, momentum "
        f"{momentum_words(winner.trial.momentum)}, batch size {winner.trial.batch_size} and max_lr "
        f"{winner.max_lr:.3g}"
    )
    after = f"a validation loss of {show(winner.val_loss)} after {length_words(winner)}"
    if own is not None and winner.trial.key == own.trial.key:
        return f"The task's own settings stay: {settings}, with {after}."
    if own is None:
        return f"Chosen: {settings}, with {after}."
    if not math.isfinite(own.val_loss):
        return f"Chosen: {settings}, with {after}; with the task's own settings " + (
            f"{own.outcome.sentence}."
        )
    return (
        f"Chosen: {settings}, with {after} against {show(own.val_loss)} with the task's own "
        f"settings at the rate read for them: {difference(own.val_loss, winner.val_loss, chance)}."
    )


def difference(before: float, after: float, chance: float) -> str:
    """Word how much lower a loss is, and whether chance alone may do that."""
    part = (before - after) / abs(before) if before else 0.0
    size = f"{abs(part):.1%} {'lower' if part >= 0 else 'higher'}"
    return size if abs(part) > chance else f"{size}, which may be chance"


def noise_words(noise: float | None, within: float) -> str:
    """Word how large the noise is, and what was made of it."""
    if noise is None:
        return (
            f"The noise was not measured, so any of what follows may be chance; a loss counts as "
            f"lower from {within:.0%} on."
        )
    return (
        f"Another seed alone makes a difference of {noise:.1%}; among runs of the same seed a loss "
        f"counts as lower from {within:.1%} on."
    )


def _choice(choice: Choice, chance: float) -> str:
    """Word a stage's choice against what there was before; of rates, in which runs it was made."""
    said = _chosen(choice, chance)
    if not said or choice.stage != "rate":
        return said
    return f"In runs of {length_words(choice.before)}, {said[0].lower()}{said[1:]}"


def _chosen(choice: Choice, chance: float) -> str:
    before, after = choice.before, choice.after
    if choice.stage == "own settings":
        if after is before:
            return ""
        if not math.isfinite(before.val_loss):
            return (
                f"In runs of {length_words(after)} the chosen settings did not train to their "
                "end, and the task's own did."
            )
        how = difference(before.val_loss, after.val_loss, chance)
        length = length_words(after)
        return (
            f"In runs of {length} the task's own settings are better, and what shorter runs chose "
            f"is taken back: {how}."
        )
    others = [r for r in choice.tried if r.trial.key != after.trial.key]
    if not others:
        return ""
    value = _value(choice.stage, after)
    if before.trial.key != after.trial.key:
        if not math.isfinite(before.val_loss):
            return (
                f"{choice.stage.capitalize()} {value} trained to its end, what was before did not."
            )
        how = difference(before.val_loss, after.val_loss, chance)
        what = f"{choice.stage.capitalize()} {value} instead of {_value(choice.stage, before)}"
        return f"{what}: {how}{_why_not_lower(choice)}."
    best = min(others, key=lambda result: result.val_loss)
    if not math.isfinite(best.val_loss):
        return f"No other {choice.stage} trained to its end."
    how = difference(after.val_loss, best.val_loss, chance)
    return f"{choice.stage.capitalize()} stays {value}: the best other is {how}{_untried(choice)}."


def _untried(choice: Choice) -> str:
    """Say so where the rate that stays is the lowest that was tried: a lower one may do better."""
    rates = [result.max_lr for result in choice.tried]
    if choice.stage != "rate" or choice.after.max_lr > min(rates) or len(rates) < 2:
        return ""
    return "; no lower rate was tried in runs as long (a larger budget would)"


def _why_not_lower(choice: Choice) -> str:
    """Say what decided among equal losses, where the chosen one's is not lower."""
    before, after = choice.before, choice.after
    if after.val_loss < before.val_loss:
        return ""
    if choice.stage == "batch size":
        return "; the larger batch counts for as good"
    if choice.stage == "rate":
        return "; of rates that do as well the highest is taken"
    rate = after.read[1] if after.read else after.max_lr
    return f"; its stable rate, {rate:.3g}, is the larger one"


def _value(stage: str, result: TrialResult) -> str:
    """Give what a stage varies."""
    trial = result.trial
    if stage == "own settings":
        momentum = momentum_words(trial.momentum)
        return (
            f"weight decay {show_decay(trial.weight_decay)} with momentum {momentum} and batch "
            f"size {trial.batch_size} at {result.max_lr:.3g}"
        )
    return {
        "batch size": str(trial.batch_size),
        "weight decay": show_decay(trial.weight_decay),
        "momentum": momentum_words(trial.momentum),
        "rate": f"{result.max_lr:.3g}",
    }[stage]


def _loss(result: TrialResult) -> str:
    if math.isfinite(result.val_loss):
        return show(result.val_loss)
    return f"({result.outcome.sentence})"


def length_words(result: TrialResult) -> str:
    """Word how long a trial trained, and on how much."""
    examples = result.trial.examples
    return f"{result.updates:,} updates{'' if examples is None else f' on {examples:,} examples'}"


def share_words(examples: int | None, of: int) -> str:
    """Word that the winner was trained on a part of the data only."""
    if examples is None:
        return ""
    return (
        f"That is a copy of the training in small, all its epochs on {examples:,} of the {of:,} "
        "examples: rates can be compared there, but its losses are not those of the whole training."
    )


def momentum_words(value: Momentum) -> str:
    """Word a momentum in a sentence."""
    if isinstance(value, tuple):
        return f"cyclical {show_momentum(value)}"
    return "the optimizer's own" if value is None else show_momentum(value)


def fit_words(curve: Sequence[Mapping[str, float]], within: float, *, cut: bool = False) -> str:
    """Word the signs of under- or overfitting in a trial's losses.

    - The validation loss has risen from its lowest point while the training loss fell: overfitting.
    - It has risen, and the training loss has not fallen: noise, or a rate that is too high.
    - The validation loss was still falling at the end, and is no more than a tenth above the
      training loss: underfitting.

    Args:
        curve: Evaluations along a training, with ``step``, ``loss`` and ``val_loss``.
        within: The relative tolerance.
        cut: Whether the training was shorter than the one it stands for.

    Reference: arXiv 1803.09820, section 3.
    """
    if len(curve) < 3:
        return ""
    losses = [point["val_loss"] for point in curve]
    lowest, last, previous = min(losses), losses[-1], losses[-2]
    at = losses.index(lowest)
    train = [point["loss"] for point in curve]
    if last > lowest + within * abs(lowest) and train[-1] < train[at]:
        return (
            f"The validation loss rose from {show(lowest)} at update {curve[at]['step']:,.0f} to "
            f"{show(last)} while the training loss fell to {show(train[-1])}: a sign of "
            "overfitting; more regularization, or a shorter training, may help."
        )
    seen = f"validation {show(last)}, training {show(train[-1])}"
    if last > lowest + max(within, _RISE) * abs(lowest):
        return (
            f"The validation loss rose from {show(lowest)} at update {curve[at]['step']:,.0f}, and "
            f"the training loss has not fallen since ({seen}): noise, or a rate that is too high."
        )
    if last < previous - within * abs(previous):
        if last <= train[-1] + _GAP * abs(train[-1]):
            return (
                f"The validation loss was still falling at the end and is about as low as the "
                f"training loss ({seen}): a sign of underfitting"
                f"{', as expected of a run this short' if cut else ''}; "
                "a longer training or a larger model can use it, and less regularization may."
            )
        return (
            f"The validation loss was still falling at the end, above the training loss ({seen}): "
            "no sign of overfitting yet."
        )
    return f"The validation loss had levelled off at the end ({seen})."


def batch_words(request: Request, choices: Sequence[Choice]) -> str:
    """Word how max_lr moved with the batch size, beside what scaling rules say."""
    for choice in choices:
        power = scaling(choice.tried, request.facts.batch_size)
        if choice.stage == "batch size" and power is not None:
            rates = ", ".join(
                f"{r.max_lr:.3g} at {r.trial.batch_size}"
                for r in sorted(choice.tried, key=lambda r: r.trial.batch_size)
                if r.bounds is not None
            )
            return (
                f"max_lr was {rates}: it grows with the batch size to the power {power:.2f} "
                "(linear scaling says 1, the square root 0.5)."
            )
    return ""
