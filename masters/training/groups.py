"""Groups: a question with its responses and verdicts, read from the run directory in the order of the curriculum."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from masters.config.run import LABEL, STUDENT
from masters.data.samples import read_samples
from masters.data.shards import Shard
from masters.data.storage import Storage
from masters.training.curriculum import Step

_RESPONSE_COLUMNS = ["sample_id", "author", "index", "text", "token_ids"]
_VERDICT_COLUMNS = ["sample_id", "index", "verdict"]


@dataclass(frozen=True)
class Response:
    """One response, with its verdict: 1, 0 or None."""

    author: str
    index: int
    token_ids: Sequence[int]
    verdict: int | None


@dataclass(frozen=True)
class Group:
    """A sample and the responses to it that can be trained on; empty ones are left out.

    `dropped` counts those that hold a token id outside the vocabulary that student and teacher share: a head has more rows
    than the tokenizer has ids, and no text stands behind such an id.
    """

    sample: dict[str, Any]
    responses: Sequence[Response] = field(default_factory=tuple)
    dropped: int = 0

    @property
    def tokens(self) -> int:
        """Of the prompt, images expanded, and all responses: how much there is to compute."""
        return self.sample["prompt_tokens"] + sum(len(response.token_ids) for response in self.responses)


class GroupReader:
    """Reads the groups of a step; shards stay in memory while steps still need them.

    Args:
        run: the run directory.
        shards: whose responses there are.
        vocabulary: of the student and each teacher of the curriculum; responses with larger ids are dropped.
    """

    def __init__(self, run: Storage, shards: Sequence[Shard], vocabulary: Sequence[int]):
        self._run, self._vocabulary = run, vocabulary
        self._by_author: dict[str, list[Shard]] = defaultdict(list)
        for shard in shards:
            self._by_author[shard.author].append(shard)
        self._loaded: dict[Shard, dict[str, list[Response]]] = {}

    def groups(self, step: Step) -> list[Group]:
        """The groups of a step in position order; the level's responses first, then the student's, then the label."""
        needed = [shard for author in (step.level, STUDENT, LABEL) for shard in self._overlapping(author, step)]
        self._loaded = {shard: self._loaded.get(shard) or self._load(shard) for shard in needed}
        samples = read_samples(self._run, "train", step.start, step.stop)
        return [self._group(sample, needed, self._vocabulary[step.teacher]) for sample in samples]

    def _group(self, sample: dict[str, Any], shards: Sequence[Shard], vocabulary: int) -> Group:
        found = list(self._responses(sample["sample_id"], shards))
        inside = tuple(response for response in found if max(response.token_ids) < vocabulary)
        return Group(sample, inside, len(found) - len(inside))

    def _overlapping(self, author: str, step: Step) -> Iterator[Shard]:
        return (s for s in self._by_author.get(author, ()) if s.start < step.stop and step.start < s.stop)

    def _responses(self, sample_id: str, shards: Sequence[Shard]) -> Iterator[Response]:
        for shard in shards:
            yield from self._loaded[shard].get(sample_id, ())

    def _load(self, shard: Shard) -> dict[str, list[Response]]:
        responses = self._run.read_table(shard.file("responses"), _RESPONSE_COLUMNS)
        verdicts = self._run.read_table(shard.file("verdicts"), _VERDICT_COLUMNS)
        known = {(v["sample_id"], v["index"]): v["verdict"] for v in verdicts.to_pylist()}
        found: dict[str, list[Response]] = defaultdict(list)
        for row in _not_empty(responses):
            key = row["sample_id"]
            found[key].append(Response(row["author"], row["index"], row["token_ids"], known.get((key, row["index"]))))
        return found


def _not_empty(responses: pa.Table) -> Iterator[dict[str, Any]]:
    return (row for row in responses.to_pylist() if row["text"].strip() and row["token_ids"])


def shards_of(existing: Sequence[str]) -> list[Shard]:
    """The shards whose tables are in responses/, from their file names."""
    found = []
    for name in existing:
        author, _, span = name.removeprefix("responses/").removesuffix(".parquet").rpartition("/")
        start, _, stop = span.partition("-")
        found.append(Shard(author, author.rpartition("@r")[2], "train", int(start), int(stop)))
    return found
