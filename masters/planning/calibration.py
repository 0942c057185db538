"""What an earlier run measured, in place of what is assumed.

The run is planned with the same arithmetic, and what it took is compared: of each stage the seconds until its work began are
taken as they were, and a factor corrects the work. So another size, model or number of workers is as good as the arithmetic.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from masters.planning.workload import Cost


@dataclass(frozen=True)
class Calibration:
    """Of each stage.

    Attributes:
        starts: seconds until work began.
        factors: of the work.
        save_seconds: of a checkpoint in training; None where it is not known.
    """

    starts: Mapping[str, float] = field(default_factory=dict)
    factors: Mapping[str, float] = field(default_factory=dict)
    save_seconds: float | None = None

    def applied(self, cost: Cost) -> Cost:
        """The cost as that run lets expect."""
        start, factor = self.starts.get(cost.stage, cost.start), self.factors.get(cost.stage, 1.0)
        if cost.stage != "train":
            return replace(cost, start=start, work=cost.work * factor)
        saving = cost.details["saving"]
        told = saving if self.save_seconds is None else cost.details["saves"] * self.save_seconds
        details = {
            **cost.details,
            "saving": told,
            "step_seconds": cost.details["step_seconds"] * factor,
            "computing": cost.details["computing"] * factor,
        }
        return replace(cost, start=start, work=(cost.work - saving) * factor + told, details=details)


NOTHING = Calibration()


@dataclass(frozen=True)
class Record:
    """What a run left behind.

    Attributes:
        seconds: of each stage that is done, wall time.
        engines: of generate, score and evaluate: what their pools did, as their manifests have it.
        step_seconds: of training, over all steps, without what is saved.
        saving_seconds: of training.
    """

    seconds: Mapping[str, float]
    engines: Mapping[str, Mapping[str, Mapping[str, Any]]]
    step_seconds: float = 0.0
    saving_seconds: float = 0.0


def record_of(manifests: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> Record:
    """From manifests by stage (with `seconds`, `counts` and `borrowed`) and the rows of metrics.jsonl."""
    own = {stage: manifest for stage, manifest in manifests.items() if not manifest.borrowed}
    saving = sum(row.get("time_saving", 0.0) for row in steps)
    return Record(
        {stage: manifest.seconds for stage, manifest in own.items()},
        {stage: found for stage, manifest in own.items() if (found := manifest.counts.get("engines"))},
        sum(row.get("time_step", 0.0) for row in steps) - saving,
        saving,
    )


def calibrate(costs: Sequence[Cost], record: Record) -> Calibration:
    """Compare a run with its own plan.

    Where a stage measured its work (training's steps, engines that are busy), start and work are told apart; elsewhere its
    work is taken to be what is planned, and the rest of the time is its start.
    """
    starts, factors, save = {}, {}, None
    for stage, seconds in record.seconds.items():
        pools = [cost for cost in costs if cost.stage == stage]
        if not pools:
            continue
        if stage == "train" and record.step_seconds:
            details = pools[0].details
            starts[stage] = max(0.0, seconds - record.step_seconds - record.saving_seconds)
            factors[stage] = record.step_seconds / (details["steps"] * details["step_seconds"])
            save = record.saving_seconds / details["saves"]
            continue
        planned = sum(cost.work for cost in pools)
        working = _working(record.engines.get(stage, {}))
        if working and planned:
            starts[stage], factors[stage] = max(0.0, seconds - working), working / planned
        else:
            starts[stage] = max(0.0, seconds - planned)
            factors[stage] = min(1.0, seconds / planned) if planned else 1.0
    return Calibration(starts, factors, save)


def _working(pools: Mapping[str, Mapping[str, Any]]) -> float:
    """Seconds in which engines were there: of each pool the mean over them, added up as pools of CPUs follow each other."""
    return sum(
        (use["busy_seconds"] + use["waiting_seconds"] + use["switching_seconds"]) / max(1, use["engines"])
        for use in pools.values()
    )
