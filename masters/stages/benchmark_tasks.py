"""What actors do with the questions of benchmarks: ask a model, and let a judge read what the rules leave open."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from masters.benchmarks import Answer, Judge, Outcome, benchmark_named, outcomes
from masters.config.evaluate import EvaluateConfig
from masters.config.score import PromptedJudge
from masters.data.image_shards import read_image
from masters.data.shards import Shard, response_seed
from masters.data.storage import Storage
from masters.data.tables import BENCHMARK_ANSWERS, BENCHMARK_OUTCOMES
from masters.stages.benchmark_files import chat_of, images_of, prompt_of, question_of, read_rows
from masters.stages.score_task import asked_model
from masters.stages.shard_worker import Ready

PARTS = "evaluation/parts"
_READERS = 8


@dataclass(frozen=True)
class AskTask:
    """A model's answers to a benchmark's rows."""

    benchmark: str
    max_tokens: int
    decoding: EvaluateConfig
    stage: str = "evaluate"
    folder: str = PARTS

    def rows(self, run: Storage, shard: Shard) -> list[dict[str, Any]]:
        """The shard's rows, of those that can be asked."""
        return read_rows(run, self.benchmark, shard.start, shard.stop)

    def requests(self, run: Storage, shard: Shard, rows: Sequence[dict[str, Any]], chat: Any) -> list[Any]:
        """A question each, images in the order of the prompt."""
        from masters.engines.masked_vllm import Request
        from masters.models.chat import load_image

        store, prompts = images_of(run, self.benchmark), [prompt_of(row) for row in rows]
        shown = [[row["image_ids"][n] for n in asked.images] for row, asked in zip(rows, prompts, strict=True)]
        with ThreadPoolExecutor(_READERS) as readers:
            images = readers.map(lambda names: [load_image(read_image(store, name)) for name in names], shown)
            return [
                Request(
                    chat.prompt(chat_of(asked)),
                    of_row,
                    response_seed(0, f"{self.benchmark}/{row['sample_id']}", shard.author),
                )
                for row, asked, of_row in zip(rows, prompts, images, strict=True)
            ]

    def compute(self, shard: Shard, rows: Sequence[dict[str, Any]], ready: Ready) -> pa.Table:
        """Ask the engine once for all."""
        answers = ready.engine.generate(ready.requests, sampling(self.decoding, self.max_tokens))
        records = [
            {"sample_id": row["sample_id"], "text": answer[0].text, "finish_reason": answer[0].finish_reason}
            for row, answer in zip(rows, answers, strict=True)
        ]
        return pa.Table.from_pylist(records, schema=BENCHMARK_ANSWERS)


@dataclass(frozen=True)
class JudgeTask:
    """What a judge makes of the answers that the rules leave open.

    Attributes:
        model: whose answers they are; its shard is named in the judge's.
        longest: prompt and reply of a judging engine together, in tokens.
        workers: actors of the pool, which share the limits of an endpoint.
    """

    benchmark: str
    model: str
    judge: PromptedJudge
    judge_name: str
    longest: int
    workers: int
    stage: str = "evaluate"
    folder: str = PARTS

    def rows(self, run: Storage, shard: Shard) -> list[dict[str, Any]]:
        """The shard's rows that are open, each with its answer."""
        return open_rows(self.benchmark, answered_rows(run, self.benchmark, answers_of(self.model, shard)))

    def requests(self, run: Storage, shard: Shard, rows: Sequence[dict[str, Any]], chat: Any) -> list[Any]:
        """The judge is asked in rounds: nothing is made ready."""
        return []

    def compute(self, shard: Shard, rows: Sequence[dict[str, Any]], ready: Ready) -> pa.Table:
        """Ask the judge once for all, and again where its reply cannot be read."""
        model = asked_model(self.judge, self.longest, ready.engine, ready.chat, self.workers)
        judge = Judge(self.judge_name, model.ask, model.control_tokens, self.judge.attempts)
        return as_table(outcomes_of(self.benchmark, rows, judge))


def author(model: str, benchmark: str) -> str:
    """Names shards, rejects and failures; no split is called as a benchmark is."""
    return f"{model}@{benchmark}"


def judged_shard(shard: Shard) -> Shard:
    """The shard of the judge's part of a shard of answers."""
    return Shard(f"{shard.author}@judged", shard.ratio, shard.split, shard.start, shard.stop)


def answers_of(model: str, judged: Shard) -> Shard:
    """The shard of answers that a judged one is about."""
    return Shard(author(model, judged.split), judged.ratio, judged.split, judged.start, judged.stop)


def answered_rows(run: Storage, benchmark: str, shard: Shard) -> list[dict[str, Any]]:
    """Rows of a shard that have an answer, each with `text` and `finish_reason`."""
    answers = {row["sample_id"]: row for row in run.read_table(shard.file(PARTS)).to_pylist()}
    rows = read_rows(run, benchmark, shard.start, shard.stop)
    return [{**row, **answers[row["sample_id"]]} for row in rows if row["sample_id"] in answers]


def open_rows(benchmark: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of which the rules cannot tell what they say."""
    found = outcomes_of(benchmark, rows, None)
    return [row for row, outcome in zip(rows, found, strict=True) if outcome.by == "nobody"]


def as_table(found: Sequence[Outcome]) -> pa.Table:
    """Outcomes as rows."""
    records = [{"sample_id": outcome.index, **asdict(outcome)} for outcome in found]
    return pa.Table.from_pylist(records, schema=BENCHMARK_OUTCOMES)


def from_table(table: pa.Table) -> list[Outcome]:
    """Rows as outcomes."""
    return [Outcome(row.pop("sample_id"), **row) for row in table.to_pylist()]


def sampling(decoding: EvaluateConfig, max_tokens: int) -> Any:
    """How every model of evaluate answers."""
    from masters.engines.masked_vllm import Sampling

    return Sampling(1, max_tokens, decoding.temperature, decoding.top_p, decoding.top_k)


def outcomes_of(benchmark: str, rows: Sequence[dict[str, Any]], judge: Judge | None) -> list[Outcome]:
    """What becomes of the answers in rows, in order."""
    answers = {row["sample_id"]: Answer(row["text"], row["finish_reason"] == "length") for row in rows}
    return outcomes(benchmark_named(benchmark), [question_of(row) for row in rows], answers, judge)
