"""What score does with some samples: rules first, then verdicts that are known, then the judge, once for equal responses."""

import functools
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from masters.config.run import LABEL
from masters.config.score import EndpointJudge, Judge, PromptedJudge, RuleJudge, ScoreConfig
from masters.data.samples import read_samples
from masters.data.shards import Shard
from masters.data.storage import Storage
from masters.data.tables import VERDICTS
from masters.judging.matching import matches
from masters.judging.repetition import is_repetitive
from masters.stages.shard_worker import Ready

JUDGED = VERDICTS.append(pa.field("key", pa.string()))
"""Of all authors together; `key` is what a prompted judge was told, or null."""

_COLUMNS = ["sample_id", "author", "index", "text"]


@dataclass(frozen=True)
class Known:
    """Verdicts of a judge that were known when the stage began: files of a folder that runs share."""

    folder: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class ScoreTask:
    """Verdicts of the responses to the questions of a shard.

    Attributes:
        longest: prompt and answer of a judging model together, in tokens.
        sources: shards of all authors whose responses are judged together; none for the shard's own author alone.
        workers: actors of the pool, which share the limits of an endpoint.
    """

    config: ScoreConfig
    longest: int
    seed: int
    sources: tuple[Shard, ...] = ()
    workers: int = 1
    known: Known | None = None
    stage: str = "score"

    @property
    def folder(self) -> str:
        """Tables of one author are verdicts; those of several are taken apart when all are there."""
        return "judged" if self.sources else "verdicts"

    def rows(self, run: Storage, shard: Shard) -> list[dict[str, Any]]:
        """The samples that have responses, each with them, in the order of authors."""
        samples = read_samples(run, shard.split, shard.start, shard.stop)
        ids = pa.array([sample["sample_id"] for sample in samples], pa.string())
        responses = defaultdict(list)
        for source in self.sources or (shard,):
            if source.start < shard.stop and shard.start < source.stop:
                table = run.read_table(source.file("responses"), _COLUMNS)
                for response in table.filter(pc.is_in(table["sample_id"], ids)).to_pylist():
                    responses[response["sample_id"]].append(response)
        return [
            {**sample, "responses": responses[sample["sample_id"]]}
            for sample in samples
            if sample["sample_id"] in responses
        ]

    def requests(self, run: Storage, shard: Shard, rows: Sequence[dict[str, Any]], chat: Any) -> list[Any]:
        """Judges ask in rounds: nothing is made ready."""
        return []

    def compute(self, shard: Shard, rows: Sequence[dict[str, Any]], ready: Ready) -> pa.Table:
        """Rules first, the judge for what they leave."""
        from masters.judging.judges import Item

        records: list[dict[str, Any]] = []
        asked: list[tuple[dict[str, Any], Item]] = []
        for sample in rows:
            for response in sample["responses"]:
                value, by, words = _by_rule(sample, response, self.config)
                records.append(
                    {
                        "sample_id": sample["sample_id"],
                        "author": response["author"],
                        "index": response["index"],
                        "response_digest": hashlib.sha256(response["text"].encode()).hexdigest()[:16],
                        "verdict": value,
                        "judge": by,
                        "explanation": words,
                    }
                )
                if not by:
                    asked.append((records[-1], item_of(sample, response["text"])))
        self._decide(asked, ready)
        return pa.Table.from_pylist(records, schema=JUDGED if self.sources else VERDICTS)

    def _decide(self, asked: Sequence[tuple[dict[str, Any], Any]], ready: Ready) -> None:
        """Verdicts, and who gave them, into the records of the items."""
        judge = make_judge(self.config, self.longest, self.seed, ready.engine, ready.chat, self.workers)
        if isinstance(self.config.judge, RuleJudge):
            for (record, _), verdict in zip(asked, judge.judge([item for _, item in asked]), strict=True):
                record.update(verdict=verdict.value, judge=judge.name, explanation=verdict.explanation)
            return
        from masters.judging.cache import verdict_key

        keys = [verdict_key(item) for _, item in asked]
        verdicts = _known(self.known).find(keys) if self.known and self.known.names else {}
        cached = set(verdicts)
        new = {key: item for key, (_, item) in zip(keys, asked, strict=True) if key not in cached}
        verdicts |= dict(zip(new, judge.judge(list(new.values())), strict=True))
        seen = set[str]()
        for key, (record, _) in zip(keys, asked, strict=True):
            by = f"{judge.name} (equal)" if key in seen else f"{judge.name} (cache)" if key in cached else judge.name
            record.update(verdict=verdicts[key].value, judge=by, explanation=verdicts[key].explanation, key=key)
            seen.add(key)


def make_judge(config: ScoreConfig, longest: int, seed: int, engine: Any, chat: Any, workers: int = 1) -> Any:
    """The judge of a recipe; rule and endpoint need no engine."""
    from masters.judging import judges

    judge: Judge = config.judge
    if not isinstance(judge, PromptedJudge):
        return judges.RuleJudge(config.numeric_tolerance)
    model = asked_model(judge, longest, engine, chat, workers)
    return judges.PromptedJudge(judge.type, model, judge, seed)


def asked_model(judge: PromptedJudge, longest: int, engine: Any, chat: Any, workers: int) -> Any:
    """What answers a judge's questions: the engine with its chat, or the endpoint."""
    if isinstance(judge, EndpointJudge):
        from masters.judging.endpoint import endpoint

        return endpoint(judge, workers)
    from masters.judging.engine import EngineModel

    return EngineModel(engine, chat, longest)


@functools.cache
def _known(known: Known) -> Any:
    """One index of each in a process."""
    from masters.judging.cache import VerdictCache

    return VerdictCache(Storage(known.folder), known.names)


def item_of(sample: dict[str, Any], response: str) -> Any:
    """What a judge is given of a row of the samples table and a response to it."""
    from masters.judging.judges import Item

    known = (sample[column] for column in ("sample_id", "question", "answers", "answer_type"))
    key, question, answers, answer_type = known
    return Item(key, question, answers, answer_type, response, sample["options"])


def _by_rule(sample: dict[str, Any], response: dict[str, Any], config: ScoreConfig) -> tuple[int | None, str, str]:
    """(verdict, judge, words) where no judge is needed; else the judge is empty. What matches exactly may repeat itself."""
    text = response["text"]
    if response["author"] == LABEL:
        return 1, "label", "the reference answer"
    if not text.strip():
        return 0, "empty", "the response is empty"
    repetitive = is_repetitive(text, config.repetition_min_words)
    first = config.match_first and not isinstance(config.judge, RuleJudge)
    if (repetitive or first) and matches(text, sample["answers"], sample["answer_type"], 0.0, sample["options"]):
        return 1, "match", "an accepted answer"
    return (0, "repetition", "one phrase over and over") if repetitive else (None, "", "")
