"""Shards of other sizes, and shards that overlap on one engine: the same questions, seeds and settings, and nearly the same words.

The actor is the pool's own, in this process; two threads call it, as Ray does.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import pyarrow as pa
import pytest

from masters.config.load import load_recipe
from masters.data.shards import cut
from masters.data.tables import RESPONSES
from masters.engines.masked_vllm import MaskedEngine, engine_environment
from masters.stages.generate import GenerateTask
from masters.stages.shard_worker import EngineSpec, ShardWorker
from tests.stages.data import begun

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("default")]
QUESTIONS, GENERATE = 64, MaskedEngine.generate


@pytest.fixture(scope="module")
def answered(finished, tmp_path_factory):
    """Of shard size and overlap: (rows by key, the most shards that were on the engine at once)."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for size, overlap in ((64, False), (4, False), (4, True)):
            config = load_recipe(finished.recipe, [f"resources.engine.overlap={str(overlap).lower()}"])
            for name, value in engine_environment(0, config.resources.engine).items():
                patch.setenv(name, value)
            run = begun(finished.run, tmp_path_factory.mktemp("overlap"))
            spec = EngineSpec.of(config.student, config, 2)
            worker = ShardWorker([GenerateTask(config.generate, 2, config.seed)], [spec], run)
            most = watch(patch, MaskedEngine)
            shards = cut("student", "0.00", "train", 0, QUESTIONS, size)
            rows = [{"job": 0, "place": place, **asdict(shard)} for place, shard in enumerate(shards)]
            with ThreadPoolExecutor(2) as calls:
                receipts = list(
                    calls.map(lambda row, call=worker: call(pa.Table.from_pylist([row])).to_pylist()[0], rows)
                )
            assert sum(receipt["rows"] for receipt in receipts) == QUESTIONS
            worker._loaded.engine.close()
            table = run.read_tables(run.names("responses", ".parquet"), RESPONSES)
            found[size, overlap] = ({(r["sample_id"], r["index"]): r for r in table.to_pylist()}, max(most))
            assert table.num_rows == len(found[size, overlap][0])
    return found


def watch(patch, engine):
    """How many threads were in `generate` at each call of it."""
    inside, seen, original = [], [0], GENERATE

    def counted(self, requests, sampling):
        inside.append(1)
        seen.append(len(inside))
        try:
            return original(self, requests, sampling)
        finally:
            inside.pop()

    patch.setattr(engine, "generate", counted)
    return seen


def test_keys_and_seeds_are_the_same_and_most_words(answered):
    expected = answered[64, False][0]
    assert len(expected) == 2 * QUESTIONS
    for (size, overlap), (rows, _) in answered.items():
        assert {key: row["seed"] for key, row in rows.items()} == {key: row["seed"] for key, row in expected.items()}
        equal = sum(rows[key]["text"] == row["text"] for key, row in expected.items()) / len(expected)
        print(f"shards of {size}, overlap {overlap}: {100 * equal:.1f} % of the texts are those of shards of 64")
        assert equal > 0.9


def test_only_shards_that_may_overlap_do(answered):
    assert {key: most for key, (_, most) in answered.items()} == {(64, False): 1, (4, False): 1, (4, True): 2}
