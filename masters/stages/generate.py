"""generate: several responses to each question, by the masked teachers at their levels and by the initial student."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from masters.config.generate import GenerateConfig
from masters.config.run import LABEL, STUDENT, RunConfig
from masters.data.image_shards import read_image
from masters.data.manifests import read_manifest
from masters.data.samples import read_samples
from masters.data.shards import Shard, cut, level_shards, response_seed
from masters.data.storage import Storage
from masters.data.tables import RESPONSES
from masters.models.folder import fingerprint
from masters.reporting.progress import Screen
from masters.stages.base import Stage
from masters.stages.mask import thresholds_name
from masters.stages.shard_pool import EngineSpec, Job, run_shards

UNMASKED = "0.00"


def parts(config: RunConfig) -> dict[str, Any]:
    """What the responses depend on."""
    return {
        "seed": config.seed,
        "generate": config.generate.model_dump(mode="json"),
        "engine": config.engine.model_dump(mode="json"),
        "student": fingerprint(config.student.path, config.hub_token_env),
    }


def teacher_shards(config: RunConfig, teacher: int, total: int) -> list[Shard]:
    """Shards of one teacher of the curriculum, in level order; `total` is the number of train samples."""
    if not config.generate.mix.teacher:
        return []
    entry, every = config.curriculum[teacher], config.generate.coverage == "all"
    return list(level_shards(config.levels(teacher), entry.ratio_keys, total, config.generate.shard_size, every=every))


def author_shards(config: RunConfig, author: str, total: int) -> list[Shard]:
    """Shards of the student or of the labels: every train sample once."""
    wanted = {STUDENT: config.generate.mix.student, LABEL: config.generate.mix.label}[author]
    return list(cut(author, UNMASKED, "train", 0, total, config.generate.shard_size)) if wanted else []


def execute(config: RunConfig, run: Storage, screen: Screen) -> tuple[dict[str, Any], str]:
    """The teachers in curriculum order, then the student, then the labels."""
    prepared = read_manifest(run, "prepare")
    assert prepared is not None
    total, images = prepared.counts["train"], prepared.counts["images_per_prompt"]
    mix, student = config.generate.mix, EngineSpec.of(config.student, config, images)
    jobs = [
        Job(
            GenerateTask(config.generate, mix.teacher, config.seed),
            teacher_shards(config, index, total),
            EngineSpec.of(teacher, config, images, thresholds=thresholds_name(teacher.alias)),
        )
        for index, teacher in enumerate(config.curriculum)
    ]
    jobs.append(
        Job(
            GenerateTask(config.generate, mix.student, config.seed),
            author_shards(config, STUDENT, total),
            student,
        )
    )
    jobs.append(Job(LabelTask(config.student.path, config.hub_token_env), author_shards(config, LABEL, total)))
    shards = [shard for job in jobs for shard in job.shards]
    with screen.track("generate", sum(s.stop - s.start for s in shards), "questions") as tracker:
        run_shards(jobs, config.resources.generate, run, tracker)
    return _summary(run, shards)


STAGE = Stage("generate", ("prepare", "mask"), ("responses", "rejects/generate", "failures/generate"), parts, execute)


@dataclass(frozen=True)
class GenerateTask:
    """Sampling `count` responses to each question."""

    config: GenerateConfig
    count: int
    seed: int
    stage: str = "generate"
    folder: str = "responses"

    def rows(self, run: Storage, shard: Shard) -> list[dict[str, Any]]:
        """The shard's samples."""
        return read_samples(run, shard.split, shard.start, shard.stop)

    def compute(self, run: Storage, shard: Shard, rows: Sequence[dict[str, Any]], engine: Any, chat: Any) -> pa.Table:
        """Ask the engine once for all."""
        from masters.engines.masked_vllm import Request, Sampling

        config = self.config
        sampling = Sampling(
            self.count,
            config.max_tokens,
            config.temperature,
            config.top_p,
            config.top_k,
            config.repetition_penalty,
        )
        seeds = [response_seed(self.seed, row["sample_id"], shard.author) for row in rows]
        requests = [Request(*ask(run, row, chat), seed) for row, seed in zip(rows, seeds, strict=True)]
        answers = engine.generate(requests, sampling)
        records = [
            {"sample_id": row["sample_id"], "author": shard.author, "index": index, **vars(completion)}
            for row, completions in zip(rows, answers, strict=True)
            for index, completion in enumerate(completions)
        ]
        return pa.Table.from_pylist(records, schema=RESPONSES)


@dataclass(frozen=True)
class LabelTask:
    """The reference answer as a response, so that labels are trained on like everything else (Eq. 4)."""

    student: str
    token_env: str
    stage: str = "generate"
    folder: str = "responses"

    def rows(self, run: Storage, shard: Shard) -> list[dict[str, Any]]:
        """The shard's samples."""
        return read_samples(run, shard.split, shard.start, shard.stop)

    def compute(self, run: Storage, shard: Shard, rows: Sequence[dict[str, Any]], engine: Any, chat: Any) -> pa.Table:
        """Tokenise the answers."""
        from masters.models.chat import ChatProcessor
        from masters.models.folder import family_of, resolve

        folder = resolve(self.student, self.token_env, weights=False)
        processor = ChatProcessor(folder, family_of(folder))
        records = [
            {
                "sample_id": row["sample_id"],
                "author": LABEL,
                "index": 0,
                "text": row["answer"],
                "token_ids": processor.answer_ids(row["answer"]),
                "finish_reason": "stop",
            }
            for row in rows
        ]
        return pa.Table.from_pylist(records, schema=RESPONSES)


def ask(run: Storage, sample: dict[str, Any], chat: Any) -> tuple[str, list[Any]]:
    """The prompt of a sample, and its images."""
    from masters.models.chat import load_image
    from masters.models.prompts import messages

    images = [load_image(read_image(run, name)) for name in sample["image_ids"]]
    return chat.prompt(messages(sample)), images


def _summary(run: Storage, shards: Sequence[Shard]) -> tuple[dict[str, Any], str]:
    counts: dict[str, Any] = {"responses": {}, "tokens": {}, "truncated": {}}
    for shard in shards:
        table = run.read_table(shard.file("responses"), ["token_ids", "finish_reason"])
        lengths = pa.compute.list_value_length(table["token_ids"])
        for key, value in (
            ("responses", table.num_rows),
            ("tokens", pa.compute.sum(lengths).as_py() or 0),
            ("truncated", table["finish_reason"].to_pylist().count("length")),
        ):
            counts[key][shard.author] = counts[key].get(shard.author, 0) + value
    rejects = run.read_tables(run.names("rejects/generate"), pa.schema([("row", pa.string())]), ["row"]).num_rows
    counts["rejects"] = rejects
    total, tokens = sum(counts["responses"].values()), sum(counts["tokens"].values())
    return (
        counts,
        f"{total:,} responses, {tokens:,} tokens by {len(counts['responses'])} authors, {rejects} rejects",
    )
