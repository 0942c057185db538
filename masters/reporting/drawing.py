"""Rewards for the plots: all of them, or as many as a plot can tell apart, drawn evenly over training."""

import random
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from masters.data.metrics import REWARDS_FOLDER
from masters.data.storage import Storage
from masters.data.tables import REWARDS

_COLUMNS = ["author", "divergence", "distill_reward", "advantage"]
_TABLES = 256


def draw_rewards(run: Storage, metrics: Sequence[Mapping[str, Any]], wanted: int, seed: int) -> tuple[pa.Table, int]:
    """Rewards of about `wanted` responses at most, and how many there are.

    Training is cut into stretches of as many tables; one table of each is read, and an equal share of its rows is kept. Which
    ones, the seed decides. Nothing is left out where there are no more than wanted.

    Args:
        run: the run directory.
        metrics: of every step.
        wanted: rows.
        seed: of the recipe.
    """
    names = run.names(REWARDS_FOLDER, ".parquet")
    total = int(sum(row.get("n_responses", 0) for row in metrics))
    share = wanted / max(1, total)
    if share < 1:
        rng, count = random.Random(seed), min(len(names), _TABLES)
        bounds = [len(names) * place // count for place in range(count + 1)]
        share *= len(names) / count
        names = [names[rng.randrange(*stretch)] for stretch in pairwise(bounds)]

    def read(name: str) -> pa.Table:
        table = run.read_table(name, _COLUMNS)
        if share >= 1:
            return table
        return table.filter(np.random.default_rng([seed, names.index(name)]).random(table.num_rows) < share)

    schema = pa.schema([REWARDS.field(column) for column in _COLUMNS])
    drawn = pa.concat_tables([schema.empty_table(), *run.each(read, names)])
    return drawn, max(total, drawn.num_rows)
