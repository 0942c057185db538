"""How much of the time ranks compute and do not wait, for the lengths of a run: groups dealt as they come, and by length.

    python perf/balance.py RUN [GROUPS_PER_RANK]

ZeRO-3 makes all ranks wait for the longest of each pass; time is taken to go with tokens. Lengths are those of the run's
prompts (images expanded) and responses, in the order of its steps.
"""

import sys

from masters.data.manifests import read_manifest
from masters.data.samples import read_split
from masters.data.storage import Storage
from masters.training.balance import deal, efficiency
from masters.training.curriculum import Step
from masters.training.groups import GroupReader, shards_of

RANKS = (8, 16, 32, 64)
ROWS = 4096


def measured(run: Storage) -> list[int]:
    """Tokens of the groups at the first positions."""
    prepared = read_manifest(run, "prepare")
    assert prepared is not None, f"{run.uri}: prepare is not done there"
    total = prepared.counts["train"]
    levels = read_split(run, "train", ["levels"])["levels"].to_pylist()[: min(total, ROWS)]
    reader, lengths = GroupReader(run, shards_of(run.names("responses", ".parquet")), [1 << 30]), []
    for start in range(len(levels)):
        step = Step(start, 0, levels[start][0], "", start, start + 1)
        lengths += [group.tokens for group in reader.groups(step)]
    return lengths


def as_they_come(count: int, ranks: int, passes: int) -> list[list[list[int]]]:
    """Every `ranks`-th group to the same rank, one a pass."""
    return [
        [[number * ranks + rank] for rank in range(ranks) if number * ranks + rank < count] for number in range(passes)
    ]


def main() -> None:
    """A line for each number of ranks."""
    run, passes = Storage(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 4
    lengths = measured(run)
    print(
        f"{len(lengths):,} groups of {min(lengths):,} to {max(lengths):,} tokens, mean {sum(lengths) / len(lengths):,.0f}"
    )
    for ranks in RANKS:
        size = ranks * passes
        steps = [lengths[start : start + size] for start in range(0, len(lengths) - size + 1, size)]
        if not steps:
            print(f"{ranks} ranks: the run has fewer than {size} groups")
            continue
        before = sum(efficiency(as_they_come(size, ranks, passes), step) for step in steps) / len(steps)
        after = sum(efficiency(deal(step, ranks, 1), step) for step in steps) / len(steps)
        print(f"{ranks} ranks, {passes} groups each in a step: {before:.2f} as they come, {after:.2f} by length")


if __name__ == "__main__":
    main()
