"""How far other judges agree with the verdicts of a run, on some of its responses. Nothing in the run is changed."""

import os
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from masters.config.run import RunConfig
from masters.config.score import Judge
from masters.data.samples import read_samples
from masters.data.storage import Storage
from masters.data.tables import VERDICTS
from masters.judging.judges import Item, Verdict
from masters.stages.generate import UNMASKED
from masters.stages.score import judging_model
from masters.stages.score_task import item_of, make_judge
from masters.stages.shard_worker import EngineSpec, start_engine

_FILES = 64  # tables that are looked at, of thousands
_WITHOUT = ("label", "empty", "repetition")  # what no judge is asked


@dataclass(frozen=True)
class Judged:
    """A response, the run's verdict and the other judge's."""

    item: Item
    author: str
    by: str
    ours: Verdict
    theirs: Verdict


def draw(run: Storage, number: int, seed: int) -> list[tuple[Item, dict[str, Any]]]:
    """Responses that a judge, or a match, decided, with their rows of the verdicts table; the same for a seed.

    Raises:
        ValueError: where there is none.
    """
    names = run.names("verdicts", ".parquet")
    rng = random.Random(seed)
    found: list[tuple[Item, dict[str, Any]]] = []
    for name in sorted(rng.sample(names, min(_FILES, len(names)))):
        start, stop = (int(part) for part in name.rpartition("/")[2].removesuffix(".parquet").split("-"))
        samples = {sample["sample_id"]: sample for sample in read_samples(run, "train", start, stop)}
        responses = run.read_table(name.replace("verdicts/", "responses/", 1), ["sample_id", "index", "text"])
        texts = {(row["sample_id"], row["index"]): row["text"] for row in responses.to_pylist()}
        for row in run.read_table(name, VERDICTS.names).to_pylist():
            if row["judge"] not in _WITHOUT:
                found.append((item_of(samples[row["sample_id"]], texts[row["sample_id"], row["index"]]), row))
    if not found:
        raise ValueError(f"{run.uri}: holds no verdicts of a judge. Run `masters score` first.")
    return rng.sample(found, min(number, len(found)))


def ask(run: Storage, config: RunConfig, judge: Judge, drawn: Sequence[tuple[Item, dict[str, Any]]]) -> list[Judged]:
    """The same responses by another judge, in this process; a teacher judges the responses of its own levels."""
    score = config.score.model_copy(update={"judge": judge})
    config = config.model_copy(update={"score": score})
    groups: dict[Any, list[tuple[Item, dict[str, Any]]]] = defaultdict(list)
    for item, row in drawn:
        groups[judging_model(config, _teacher(config, row["author"]))].append((item, row))
    judged = []
    for model, group in groups.items():
        spec = EngineSpec.of(model, config, 1) if model else None
        if spec is not None:
            from masters.engines.masked_vllm import engine_environment

            os.environ.update(engine_environment(spec.model.gpus_per_engine, spec.resources))
        loaded = start_engine(spec, run, UNMASKED)
        other = make_judge(score, config.engine.max_model_len, config.seed, loaded.engine, loaded.chat)
        verdicts = other.judge([item for item, _ in group])
        if loaded.engine is not None:
            loaded.engine.close()
        judged += [
            Judged(item, row["author"], row["judge"], Verdict(row["verdict"], row["explanation"]), theirs)
            for (item, row), theirs in zip(group, verdicts, strict=True)
        ]
    return judged


def _teacher(config: RunConfig, author: str) -> int:
    """Whose level an author is; the last teacher's where it is none."""
    last = len(config.curriculum) - 1
    return next((place for place in range(last + 1) if author in config.levels(place)), last)
