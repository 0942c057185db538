"""Finding the row that crashes an engine. The state of a shard between attempts; pure, kept in a file by its user.

An exception from the engine is recorded before the process exits, and the shard is bisected to the one row, which is
rejected with the reason. A death without an exception (kill, preemption) is never held against a row until that row has died
alone five times.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

DEATHS_BEFORE_BISECTION = 3
DEATHS_ALONE = 5
MOST_EXCLUDED = 8


@dataclass(frozen=True)
class Trial:
    """What is known of a shard that did not finish.

    Attributes:
        probes: sets of rows still to be tried apart, each a list of row numbers.
        excluded: row number -> why it is rejected.
        running: rows of the attempt under way; found not empty at a start, the attempt died without an exception.
        deaths: such deaths of the rows that are tried now.
        bisected: whether every row was cleared or excluded by probing.
    """

    probes: tuple[tuple[int, ...], ...] = ()
    excluded: Mapping[int, str] = field(default_factory=dict)
    running: tuple[int, ...] = ()
    deaths: int = 0
    bisected: bool = False

    def start(self, rows: Sequence[int]) -> "Trial":
        """The next attempt of a shard with these rows: `running` says which ones, all but the excluded or a probe."""
        trial = self._died() if self.running else self
        wanted = trial.probes[0] if trial.probes else tuple(row for row in rows if row not in trial.excluded)
        return replace(trial, running=wanted)

    @property
    def is_probe(self) -> bool:
        """Whether the attempt under way only looks for a culprit, so that its result is thrown away."""
        return bool(self.probes)

    def passed(self) -> "Trial":
        """The attempt under way went well."""
        return replace(self, probes=self.probes[1:], running=(), deaths=0)

    def failed(self, reason: str) -> "Trial":
        """The engine raised in the attempt under way.

        Raises:
            ValueError: where rows fail only together, or so many fail alone that no row is to blame.
        """
        if not self.is_probe and self.bisected:
            raise ValueError(
                f"rows fail together and not alone ({reason}); lower generate.shard_size or resources.engine.max_num_seqs"
            )
        if len(self.running) == 1 and len(self.excluded) == MOST_EXCLUDED:
            raise ValueError(
                f"more than {MOST_EXCLUDED} rows of one shard fail, the last with {reason}: look for the cause in the model "
                "or the engine, not in the rows"
            )
        return self._narrow(reason)

    def _died(self) -> "Trial":
        trial = replace(self, deaths=self.deaths + 1)
        enough = DEATHS_ALONE if len(trial.running) == 1 else DEATHS_BEFORE_BISECTION
        cleared = self.bisected and not self.is_probe
        if trial.deaths < enough or cleared:
            return replace(trial, running=())
        return trial._narrow(f"the engine died {trial.deaths} times on this row alone, without an error")

    def _narrow(self, reason: str) -> "Trial":
        """Split the rows under way, or exclude the last one left."""
        rest, rows = self.probes[1:] if self.probes else (), self.running
        if len(rows) == 1:
            excluded = {**self.excluded, rows[0]: reason}
            return Trial(probes=rest, excluded=excluded, bisected=True)
        middle = len(rows) // 2
        return Trial(probes=(rows[:middle], rows[middle:], *rest), excluded=self.excluded, bisected=True)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**self.__dict__, "excluded": {str(row): why for row, why in self.excluded.items()}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Trial":
        """From the plain data that `to_json` gave."""
        return cls(
            probes=tuple(tuple(probe) for probe in data["probes"]),
            excluded={int(row): why for row, why in data["excluded"].items()},
            running=tuple(data["running"]),
            deaths=data["deaths"],
            bisected=data["bisected"],
        )
