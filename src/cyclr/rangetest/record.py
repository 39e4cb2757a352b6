"""What a range test saw, raw. Rules draw their conclusions from it, now or years later."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from cyclr import jsonfile
from cyclr.errors import InputError, RecordError, SpecError
from cyclr.rangetest.way_back import NO_LEG, Leg
from cyclr.schedules.fields import Constraint
from cyclr.schedules.spec import Schedule, from_dict

if TYPE_CHECKING:
    from cyclr.rangetest.reading import Reading

_FORMAT = 1
_RISING = ("accuracy", "auc", "f1", "score")  # ends of names of what is better when higher
PER_EPOCH = Constraint(kind="integer", ge=1, optional=True)
LITTLE = 20  # updates in an epoch up to which the data count as little
# Names of a validation loss that is then read by itself; a part of one, or a critic's loss, is not.
VALIDATION_LOSSES = ("val_loss", "valid_loss", "validation_loss", "eval_loss")
MOMENTUM = Constraint(kind="real", ge=0, lt=1, optional=True)


class Outcome(StrEnum):
    """How a sweep ended."""

    COMPLETED = "completed"
    DIVERGED = "diverged"
    NON_FINITE = "non_finite"
    INTERRUPTED = "interrupted"

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        return {
            "completed": "The sweep ran through its whole range.",
            "diverged": "The loss rose clearly and for good, and the sweep stopped there.",
            "non_finite": "The loss became NaN or infinite, and the sweep stopped there.",
            "interrupted": "The sweep was stopped from outside before its end.",
        }[self.value]


class Series(NamedTuple):
    """A metric measured at some of the steps."""

    steps: tuple[int, ...]
    """The steps before whose update the metric was measured, ascending."""
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, repr=False)
class RangeRecord:
    """One sweep: the rate used by each update and the loss measured just before it.

    ``loss[k]`` belongs to the weights before update ``k`` and ``lr[k]`` is the rate of that
    update, so the first loss that ``lr[k]`` can have influenced is ``loss[k + 1]``.

    Attributes:
        sweep: The schedule of the rate.
        lr: Rate used by update k, one entry per update.
        loss: Loss of update k's batch; may hold NaN and infinity. As long as lr.
        metrics: Other measurements, such as ``"accuracy"`` at intervals.
        outcome: How the sweep ended.
        optimizer: What the sweep ran with, such as name, momentum and weight_decay.
        steps_per_epoch: Updates in an epoch of the sweep's data, or None if unknown.
        notes: What happened on the way, one sentence each: a second attempt from a lower rate, an
            exception that ended the sweep.
        way_back: The updates after the sweep in which the rate came down again, if there were any;
            they count in none of the above.
        scout: The updates before the sweep in which a scout looked for where the loss diverges, if
            one was sent; the training was put back after it, and they count in none of the above.
        repeats: Further sweeps of the same training, with the data in another order; see
            :func:`combine`.
    """

    sweep: Schedule
    lr: tuple[float, ...]
    loss: tuple[float, ...]
    metrics: Mapping[str, Series] = field(default_factory=dict)
    outcome: Outcome
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    steps_per_epoch: int | None = None
    notes: tuple[str, ...] = ()
    way_back: Leg = NO_LEG
    scout: Leg = NO_LEG
    repeats: tuple[RangeRecord, ...] = ()

    def __post_init__(self) -> None:
        if len(self.lr) != len(self.loss):
            raise RecordError(
                f"RangeRecord.loss must be as long as lr ({len(self.lr)}), got {len(self.loss)} "
                "entries; give one loss per update"
            )
        self._check_numbers()
        try:
            PER_EPOCH.check("RangeRecord.steps_per_epoch", self.steps_per_epoch)
            MOMENTUM.check("RangeRecord.optimizer.momentum", self.optimizer.get("momentum"))
        except SpecError as error:
            raise RecordError(str(error)) from error

    def _check_numbers(self) -> None:
        for before, after in itertools.pairwise((0.0, *self.lr)):
            if not (before <= after < math.inf):
                raise RecordError(
                    f"RangeRecord.lr must be finite numbers ≥ 0 that do not fall, got {after:g} "
                    f"after {before:g}; give the rates of one sweep in their order"
                )
        for name, (steps, values) in self.metrics.items():
            inside = all(0 <= step < len(self.lr) for step in steps)
            if len(steps) != len(values) or not inside or list(steps) != sorted(set(steps)):
                raise RecordError(
                    f"RangeRecord.metrics.{name} must have one value for each of its steps, which "
                    f"ascend from 0 to {len(self.lr) - 1} at most; got {len(steps)} steps and "
                    f"{len(values)} values"
                )

    def __repr__(self) -> str:
        """Say what there is, without its hundreds of numbers."""
        rates = f"{self.lr[0]:.3g} to {self.lr[-1]:.3g}" if self.lr else "no updates"
        parts = [f"{self.outcome.value}", f"{self.updates} updates", f"lr {rates}"]
        parts += [f"{name} at {len(s.steps)} steps" for name, s in self.metrics.items()]
        parts += [f"{len(self.sweeps)} sweeps"] if self.repeats else []
        return f"<RangeRecord: {', '.join(parts)}>"

    def __len__(self) -> int:
        """How many updates the sweep made, without its scout and its way back."""
        return len(self.lr)

    @property
    def updates(self) -> int:
        """How many updates were made in all, by scout, sweep, its way back and the repeats."""
        made = sum(len(sweep.lr) + len(sweep.way_back.lr) for sweep in self.sweeps)
        # Repeats share the scout of the first. Its losses as text: NaN is not equal to itself.
        scouts = {(s.scout.lr, repr(s.scout.loss)) for s in self.sweeps}
        return made + sum(len(lr) for lr, _ in scouts)

    @property
    def has_little_data(self) -> bool:
        """Whether an epoch is known to have twenty updates or fewer."""
        return self.steps_per_epoch is not None and self.steps_per_epoch <= LITTLE

    @property
    def passes(self) -> float:
        """How many times the sweep went through its data; 0 if the data's length is unknown."""
        return 0.0 if self.steps_per_epoch is None else len(self) / self.steps_per_epoch

    @property
    def sweeps(self) -> tuple[RangeRecord, ...]:
        """The record without its repeats, and each repeat, as records of their own."""
        if not self.repeats:
            return (self,)
        return (replace(self, repeats=()), *(s for r in self.repeats for s in r.sweeps))

    def read(self, rule: str | None = None, metric: str | None = None) -> Reading:
        """Draw a conclusion: bounds, intervals for them, outcome and caveats.

        Args:
            rule: Name of a rule of :mod:`cyclr.rangetest.rules`. By default ``"accuracy"`` when
                the record holds an accuracy on a linear sweep (Smith's figure), ``"edge"``
                when a scout went ahead of a slow sweep, otherwise ``"basin"``.
            metric: Name of a metric to read in place of the loss, such as ``"val_loss"``, or
                ``"loss"``. By default a validation loss (``val_loss``, ``valid_loss``,
                ``validation_loss`` or ``eval_loss``) where an epoch has twenty updates or fewer and
                it was measured at every other update at least, unless the rule is ``"accuracy"``;
                otherwise the loss. A net that sees its few examples again and again may learn them
                by heart, at rates that serve new ones badly.

        Raises:
            RecordError: The rule or the metric is unknown, or the record does not hold what the
                rule needs.
        """
        from cyclr.rangetest.read import read

        return read(self, rule, metric)

    def alone(self) -> RangeRecord:
        """Give the record of the loss alone, without other metrics. Repeats are treated alike."""
        return replace(self, metrics={}, repeats=tuple(r.alone() for r in self.repeats))

    def seen_by(self, metric: str) -> RangeRecord:
        """Give the record as it looks to a metric: at the steps where it was measured.

        The metric becomes the loss, and it and no other stays among the metrics. One that rises
        when things get better becomes the loss with its sign turned; those are the ones whose name
        ends in ``accuracy``, ``auc``, ``f1`` or ``score``. Repeats are treated alike.

        Raises:
            RecordError: The record holds no such metric.
        """
        if metric not in self.metrics:
            held = ", ".join(sorted(self.metrics))
            remedy = (
                "pick one" if held else "run the range test with validate (cyclr find --validate)"
            )
            raise RecordError(
                f"metric must be one that the record holds ({held or 'none'}), got {metric!r}; "
                f"{remedy}"
            )
        series = self.metrics[metric]
        sign = -1.0 if rises(metric) else 1.0
        steps = tuple(range(len(series.steps)))
        return replace(
            self,
            lr=tuple(self.lr[step] for step in series.steps),
            loss=tuple(sign * value for value in series.values),
            # The accuracy rule looks for the name, and has just been told what to take for it.
            metrics={"accuracy": Series(steps, series.values)} if sign < 0 else {},
            way_back=NO_LEG,  # it knows the loss alone
            steps_per_epoch=None,  # the steps here are measurements
            repeats=tuple(repeat.seen_by(metric) for repeat in self.repeats),
        )

    def to_dict(self) -> dict[str, Any]:
        """Write the record as plain data that strict JSON can hold."""
        return {
            "cyclr_record": _FORMAT,
            "outcome": self.outcome.value,
            "sweep": self.sweep.to_dict(),
            "optimizer": dict(self.optimizer),
            "steps_per_epoch": self.steps_per_epoch,
            "lr": jsonfile.pack(self.lr),
            "loss": jsonfile.pack(self.loss),
            "metrics": {
                name: {"steps": list(series.steps), "values": jsonfile.pack(series.values)}
                for name, series in self.metrics.items()
            },
            **({"way_back": _pack(self.way_back)} if self.way_back.lr else {}),
            **({"scout": _pack(self.scout)} if self.scout.lr else {}),
            # Only where there are any: earlier versions wrote, and read, records without them.
            **({"notes": list(self.notes)} if self.notes else {}),
            **({"repeats": [r.to_dict() for r in self.repeats]} if self.repeats else {}),
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the record to a JSON file.

        Raises:
            InputError: The file cannot be written.
        """
        jsonfile.write(path, self.to_dict())

    @classmethod
    def from_dict(cls, data: Any) -> RangeRecord:
        """Read a record from plain data, as :meth:`to_dict` wrote it.

        Raises:
            RecordError: The data is not a record, or one of a later format.
        """
        if not isinstance(data, dict) or "cyclr_record" not in data:
            raise RecordError(
                'it must be an object with the key "cyclr_record"; '
                "write one with `cyclr find TASK --out record.json` or record.save(path)"
            )
        if data["cyclr_record"] != _FORMAT:
            raise RecordError(
                f"cyclr_record must be {_FORMAT}, got {data['cyclr_record']!r}; "
                "this record was written by another version of cyclr, read it with that one"
            )
        try:
            return cls(
                sweep=from_dict(data["sweep"], where="record.sweep"),
                lr=jsonfile.unpack(data["lr"]),
                loss=jsonfile.unpack(data["loss"]),
                metrics={
                    str(name): Series(
                        tuple(map(int, series["steps"])), jsonfile.unpack(series["values"])
                    )
                    for name, series in data["metrics"].items()
                },
                outcome=Outcome(data["outcome"]),
                optimizer=dict(data["optimizer"]),
                steps_per_epoch=data["steps_per_epoch"],
                notes=tuple(map(str, _listed(data.get("notes", [])))),
                way_back=_unpack(data.get("way_back")),
                scout=_unpack(data.get("scout")),
                repeats=tuple(map(cls.from_dict, data.get("repeats", ()))),
            )
        except KeyError as error:
            raise RecordError(
                f"the record lacks {error}; it is damaged, run the sweep again"
            ) from error
        except RecordError:
            raise
        except SpecError as error:
            raise RecordError(f"the record's sweep is damaged: {error}") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise RecordError(f"the record is damaged ({error}); run the sweep again") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RangeRecord:
        """Read a record from a JSON file.

        Raises:
            RecordError: The file cannot be read, or is not a record.
        """
        try:
            return cls.from_dict(jsonfile.read(path, what="a range test's record"))
        except RecordError as error:
            raise RecordError(f"{path} is not a range test's record: {error}") from error
        except InputError as error:
            raise RecordError(str(error)) from error


def rises(metric: str) -> bool:
    """Say whether a metric rises when things get better, from its name."""
    return metric.endswith(_RISING)


def _listed(data: Any) -> list[Any]:
    if isinstance(data, list):
        return data
    raise TypeError(f"notes must be a list, got {type(data).__name__}")


def _pack(leg: Leg) -> dict[str, Any]:
    return {"lr": jsonfile.pack(leg.lr), "loss": jsonfile.pack(leg.loss)}


def _unpack(data: Any) -> Leg:
    if data is None:
        return NO_LEG
    leg = Leg(jsonfile.unpack(data["lr"]), jsonfile.unpack(data["loss"]))
    if len(leg.lr) != len(leg.loss):
        raise ValueError("its scout or its way back has not one loss per update")
    return leg
