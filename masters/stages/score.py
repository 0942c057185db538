"""score: a verdict for each response. Empty and long repetitive ones are wrong by rule, labels right; a judge gets the rest."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from masters.config.run import LABEL, STUDENT, RunConfig
from masters.config.score import RuleJudge as RuleJudgeConfig
from masters.config.score import ScoreConfig
from masters.data.manifests import read_manifest
from masters.data.samples import read_samples
from masters.data.shards import Shard
from masters.data.storage import Storage
from masters.data.tables import VERDICTS
from masters.judging.matching import matches
from masters.judging.repetition import is_repetitive
from masters.reporting.progress import Screen
from masters.stages.base import Stage
from masters.stages.generate import author_shards, teacher_shards
from masters.stages.shard_pool import EngineSpec, Job, run_shards


def parts(config: RunConfig) -> dict[str, Any]:
    """What the verdicts depend on."""
    judged_by_rule = isinstance(config.score.judge, RuleJudgeConfig)
    return {
        "score": config.score.model_dump(mode="json", exclude=None if judged_by_rule else {"numeric_tolerance"}),
        "engine": {} if judged_by_rule else config.engine.model_dump(mode="json"),
    }


def execute(config: RunConfig, run: Storage, screen: Screen) -> tuple[dict[str, Any], str]:
    """The judge of a level's responses is its own teacher, unmasked; of the student's, the last teacher."""
    prepared = read_manifest(run, "prepare")
    assert prepared is not None
    total = prepared.counts["train"]
    task = ScoreTask(config.score, config.engine.max_model_len, config.seed)
    by_rule = isinstance(config.score.judge, RuleJudgeConfig)
    jobs = []
    for index, teacher in enumerate(config.curriculum):
        shards = teacher_shards(config, index, total)
        if index == len(config.curriculum) - 1:
            shards += [*author_shards(config, STUDENT, total), *author_shards(config, LABEL, total)]
        jobs.append(Job(task, shards, None if by_rule else EngineSpec.of(teacher, config, 1)))
    shards = [shard for job in jobs for shard in job.shards]
    with screen.track("score", sum(s.stop - s.start for s in shards), "questions") as tracker:
        run_shards(jobs, config.resources.score, run, tracker)
    return _summary(run, shards, config.score.judge.type)


STAGE = Stage("score", ("prepare", "generate"), ("verdicts", "rejects/score", "failures/score"), parts, execute)


@dataclass(frozen=True)
class ScoreTask:
    """Verdicts of all responses of a shard."""

    config: ScoreConfig
    longest: int
    seed: int
    stage: str = "score"
    folder: str = "verdicts"

    def rows(self, run: Storage, shard: Shard) -> list[dict[str, Any]]:
        """The samples that have responses, each with them."""
        responses = defaultdict(list)
        for response in run.read_table(shard.file("responses")).to_pylist():
            responses[response["sample_id"]].append(response)
        samples = read_samples(run, shard.split, shard.start, shard.stop)
        return [
            {**sample, "responses": responses[sample["sample_id"]]}
            for sample in samples
            if sample["sample_id"] in responses
        ]

    def compute(self, run: Storage, shard: Shard, rows: Sequence[dict[str, Any]], engine: Any, chat: Any) -> pa.Table:
        """Rules first, the judge for what they leave."""
        from masters.judging.judges import Item

        records, items, judged = [], [], []
        for sample in rows:
            for response in sample["responses"]:
                value, by, words = _by_rule(sample, response, self.config.repetition_min_words)
                records.append(
                    {
                        "sample_id": sample["sample_id"],
                        "author": shard.author,
                        "index": response["index"],
                        "response_digest": hashlib.sha256(response["text"].encode()).hexdigest()[:16],
                        "verdict": value,
                        "judge": by,
                        "explanation": words,
                    }
                )
                if not by:
                    items.append(
                        Item(
                            sample["sample_id"],
                            sample["question"],
                            sample["answers"],
                            sample["answer_type"],
                            response["text"],
                            sample["options"],
                        )
                    )
                    judged.append(records[-1])
        judge = self._judge(engine, chat)
        for record, verdict in zip(judged, judge.judge(items), strict=True):
            record.update(verdict=verdict.value, judge=judge.name, explanation=verdict.explanation)
        return pa.Table.from_pylist(records, schema=VERDICTS)

    def _judge(self, engine: Any, chat: Any) -> Any:
        from masters.judging.judges import RuleJudge, TeacherJudge

        if isinstance(self.config.judge, RuleJudgeConfig):
            return RuleJudge(self.config.numeric_tolerance)
        return TeacherJudge(engine, chat, self.config.judge, self.longest, self.seed)


def _by_rule(sample: dict[str, Any], response: dict[str, Any], min_words: int) -> tuple[int | None, str, str]:
    """(verdict, judge, words) where no judge is needed; else the judge is empty. What matches exactly may repeat itself."""
    if response["author"] == LABEL:
        return 1, "label", "the reference answer"
    if not response["text"].strip():
        return 0, "empty", "the response is empty"
    if is_repetitive(response["text"], min_words):
        if matches(response["text"], sample["answers"], sample["answer_type"], 0.0, sample["options"]):
            return 1, "match", "an accepted answer"
        return 0, "repetition", "one phrase over and over"
    return None, "", ""


def _summary(run: Storage, shards: Sequence[Shard], judge: str) -> tuple[dict[str, Any], str]:
    right: dict[str, int] = defaultdict(int)
    wrong: dict[str, int] = defaultdict(int)
    null: dict[str, int] = defaultdict(int)
    for shard in shards:
        for value in run.read_table(shard.file("verdicts"), ["verdict"])["verdict"].to_pylist():
            (null if value is None else right if value else wrong)[shard.author] += 1
    total = sum(right.values()) + sum(wrong.values()) + sum(null.values())
    counts = {"right": dict(right), "wrong": dict(wrong), "null": dict(null)}
    share = 100 * sum(right.values()) / max(1, total)
    return counts, f"{judge} judge: {total:,} verdicts, {share:.1f} % right, {sum(null.values()):,} null"
