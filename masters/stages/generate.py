"""generate: several responses to each question, by the masked teachers at their levels and by the initial student."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from masters.config.generate import GenerateConfig
from masters.config.run import LABEL, STUDENT, RunConfig
from masters.data.image_shards import read_image
from masters.data.manifests import read_manifest
from masters.data.samples import read_samples
from masters.data.shards import Shard, count, cut, level_shards, response_seed
from masters.data.storage import Storage
from masters.data.tables import RESPONSES
from masters.models.folder import fingerprint
from masters.reporting.progress import Screen
from masters.stages.base import Stage
from masters.stages.fetch import Need
from masters.stages.mask import thresholds_name
from masters.stages.shard_pool import Job, run_stage_shards
from masters.stages.shard_worker import EngineSpec, Ready

UNMASKED = "0.00"
_READERS = 8  # images in flight: of a folder they wait for the disk, of an object store for the network


def parts(config: RunConfig) -> dict[str, Any]:
    """What the responses depend on."""
    return {
        "seed": config.seed,
        "generate": config.generate.model_dump(mode="json"),
        "engine": config.engine.model_dump(mode="json"),
        "student": fingerprint(config.student.path, config.hub_token_env),
        **({"quantization": config.student.quantization} if config.student.quantization else {}),
        **config.images.parts,
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
            "teacher",
            config.resources.generate,
            EngineSpec.of(teacher, config, images, thresholds=thresholds_name(teacher.alias)),
        )
        for index, teacher in enumerate(config.curriculum)
    ]
    jobs.append(
        Job(
            GenerateTask(config.generate, mix.student, config.seed),
            author_shards(config, STUDENT, total),
            "student",
            config.resources.student_pool,
            student,
        )
    )
    labels = LabelTask(config.student.path, config.hub_token_env, config.hub_mirror)
    jobs.append(Job(labels, author_shards(config, LABEL, total), "label", config.resources.student_pool))
    shards = [shard for job in jobs for shard in job.shards]
    engines = run_stage_shards("questions", jobs, run, screen)
    counts, words = _summary(run, shards)
    return counts | {"engines": engines}, words


def _models(config: RunConfig) -> list[Need]:
    mix, resources = config.generate.mix, config.resources
    teachers = [Need(teacher.path, resources.generate) for teacher in config.curriculum if mix.teacher]
    return [*teachers, *([Need(config.student.path, resources.student_pool)] if mix.student else [])]


_OUTPUTS = ("responses", "rejects/generate", "failures/generate")
STAGE = Stage("generate", ("prepare", "mask"), _OUTPUTS, parts, execute, _models, continuing=_OUTPUTS[-1:])


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

    def requests(self, run: Storage, shard: Shard, rows: Sequence[dict[str, Any]], chat: Any) -> list[Any]:
        """A question each."""
        return ask(run, rows, [response_seed(self.seed, row["sample_id"], shard.author) for row in rows], chat)

    def compute(self, shard: Shard, rows: Sequence[dict[str, Any]], ready: Ready) -> pa.Table:
        """Ask the engine once for all."""
        from masters.engines.masked_vllm import Sampling

        config = self.config
        sampling = Sampling(
            self.count,
            config.max_tokens,
            config.temperature,
            config.top_p,
            config.top_k,
            config.repetition_penalty,
        )
        answers = ready.engine.generate(ready.requests, sampling)
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
    mirror: str | None
    stage: str = "generate"
    folder: str = "responses"

    def rows(self, run: Storage, shard: Shard) -> list[dict[str, Any]]:
        """The shard's samples."""
        return read_samples(run, shard.split, shard.start, shard.stop)

    def requests(self, run: Storage, shard: Shard, rows: Sequence[dict[str, Any]], chat: Any) -> list[Any]:
        """Nothing is asked."""
        return []

    def compute(self, shard: Shard, rows: Sequence[dict[str, Any]], ready: Ready) -> pa.Table:
        """Tokenise the answers."""
        from masters.models.chat import ChatProcessor
        from masters.models.folder import family_of, resolve

        folder = resolve(self.student, self.token_env, weights=False, mirror=self.mirror)
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


def ask(run: Storage, samples: Sequence[dict[str, Any]], seeds: Sequence[int], chat: Any) -> list[Any]:
    """A request for each sample: its prompt, and its images, which threads read and decode."""
    from masters.engines.masked_vllm import Request
    from masters.models.chat import load_image
    from masters.models.prompts import messages

    with ThreadPoolExecutor(_READERS) as readers:
        images = readers.map(lambda s: [load_image(read_image(run, name)) for name in s["image_ids"]], samples)
        return [
            Request(chat.prompt(messages(sample)), of_sample, seed)
            for sample, of_sample, seed in zip(samples, images, seeds, strict=True)
        ]


def _summary(run: Storage, shards: Sequence[Shard]) -> tuple[dict[str, Any], str]:
    found = count(run, "responses", shards)
    columns = {"responses": "rows", "tokens": "tokens", "truncated": "truncated"}
    counts: dict[str, Any] = {
        name: {author: held[key] for author, held in found.items()} for name, key in columns.items()
    }
    rejects = sum(footer.num_rows for footer in run.each(run.footer, run.names("rejects/generate", ".parquet")))
    counts["rejects"] = rejects
    total, tokens = sum(counts["responses"].values()), sum(counts["tokens"].values())
    return (
        counts,
        f"{total:,} responses, {tokens:,} tokens by {len(counts['responses'])} authors, {rejects} rejects",
    )
