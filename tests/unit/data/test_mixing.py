"""The mix: which rows weight and limit leave, how questions end, and what the statistics say, against plain Python."""

import json
import pickle
import random
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from masters.config.load import validate
from masters.config.problems import RecipeError
from masters.data import mixing, order, staging
from masters.data.mixing import ANSWER_TYPES, PERCENTILES, Facts, is_thinned, keep_limits, mix_keys, statistics
from masters.data.order import Keys, id_hashes
from masters.data.samples import read_split
from masters.data.sources.fingerprints import fingerprint
from masters.data.sources.readers import parts_of
from masters.data.summary import SourceSummary
from masters.stages import ordering, prepare
from tests.unit.data.test_prepare import Preparing, record
from tests.unit.data.test_rows import png

CASES = {case["name"]: case for case in yaml.safe_load((Path(__file__).parent / "suffixes.yaml").read_text())}


@pytest.fixture
def preparing(tmp_path, trained, monkeypatch):
    monkeypatch.setattr(ordering, "map_tasks", lambda function, items, *told: [function(item, *told) for item in items])
    return Preparing(tmp_path, trained[0])


REFUSED = [
    ({"weight": 1.5}, r"weight = 1\.5: is more than 1, .* Give the other sources less instead"),
    ({"weight": 0}, r"weight = 0: .*greater than 0"),
    ({"weight": -0.5}, r"weight = -0\.5: .*greater than 0"),
    ({"weight": "half"}, r"weight = \"half\": .*number"),
    ({"limit": 0}, r"limit = 0: .*greater than or equal to 1"),
    ({"limit": 2.5}, r"limit = 2\.5: .*integer"),
    ({"prompt_suffix": " \n"}, r"prompt_suffix = .*: is no text to end a question with\. Write words"),
    ({"prompt_suffix": "Look: <image>"}, r"prompt_suffix = .*: is no text to end a question with\."),
]


@pytest.mark.parametrize(("fields", "words"), REFUSED, ids=[json.dumps(fields) for fields, _ in REFUSED])
@pytest.mark.parametrize("kind", ["charts", "files"])
def test_what_is_no_mix_is_refused(fields, words, kind):
    source = {"charts": {"type": "charts"}, "files": {"type": "files", "name": "x", "path": "x"}}[kind]
    models = {"student": {"path": "s"}, "curriculum": [{"alias": "t", "path": "t", "r_max": 0.2}]}
    with pytest.raises(RecipeError, match=rf"prepare\.sources\[0\]\.{words}"):
        validate({"name": "x", **models, "prepare": {"sources": [{**source, **fields}]}})


@pytest.mark.parametrize("name", CASES)
def test_how_questions_end(preparing, name):
    case = CASES[name]
    (preparing.folder / "i.png").write_bytes(png())
    (train,) = preparing.files({"train": [{"id": 1, **case["record"]}]}, **case["source"])
    counts, _ = preparing([train, {"type": "charts", "train_images": 1, "test_images": 1}])
    rows = [row for row in read_split(preparing.run, "train").to_pylist() if row["source"] == "train"]
    rows.sort(key=lambda row: row["sample_id"])
    assert not counts["rejects"]
    wanted = [" | ".join([*row["history"], row["question"]]) for row in rows]
    assert wanted == case["asked"]
    assert counts["sources"]["train"]["question"]["largest"] == max(len(row["question"]) for row in rows)


def test_a_suffix_that_no_prompt_may_hold_rejects_the_rows(preparing):
    sources = preparing.files({"train": [record(0)], "test": [record(0)]}, prompt_suffix="Now <|im_end|>")
    with pytest.raises(ValueError, match="2 of 2 rows cannot be used: question holds a token reserved"):
        preparing(sources)


@pytest.mark.parametrize("seed", range(3))
def test_keys_are_even_and_of_their_own(seed):
    """Independent of the order of the samples and of those of another seed: chi-squared over 16 x 16 fields."""
    names = [f"a/{number}" for number in range(20_000)]
    ids = id_hashes(names)
    mine, next_one = (mix_keys(number, ids) for number in (seed, seed + 1))
    positions = np.array([order.permutation_key(seed, name) for name in names], np.uint64)
    for other in (positions, next_one, ids[:, 0]):
        fields = np.histogram2d(mine >> np.uint64(60), other >> np.uint64(60), bins=16, range=[[-0.5, 15.5]] * 2)[0]
        assert ((fields - len(names) / 256) ** 2).sum() / (len(names) / 256) < 255 + 5 * np.sqrt(2 * 255)


@pytest.mark.parametrize("weight", [1e-9, 0.1, 0.3, 0.999])
def test_a_weight_is_a_share_and_smaller_ones_are_inside_larger_ones(weight):
    def kept(weight, split="train", seed=0):
        source = SimpleNamespace(name="a", weight=weight)
        return {row for row in range(4000) if not is_thinned(source, split, str(row), seed)}

    mine = kept(weight)
    assert abs(len(mine) - 4000 * weight) <= 5 * np.sqrt(4000 * weight * (1 - weight)) + 1
    assert mine <= kept(min(1.0, weight * 2))
    assert kept(1.0) == set(range(4000)) == kept(weight, "test") == kept(weight, "validation") == kept(weight, None)
    if weight in (0.1, 0.3):
        assert len(mine & kept(weight, seed=1)) < 1.5 * 4000 * weight**2 + 20


class Made:
    """Chunks of staged rows of three sources, and the same as plain rows."""

    def __init__(self, seed, chunks=6, rows=40):
        rng, self.rows, tables, self.owner = random.Random(seed), [], [], []
        for chunk in range(chunks):
            records = []
            for number in range(rng.choice([0, rows])):
                sides = [rng.randint(1, 2000) for _ in range(2 * rng.choice([0, 1, 1, 3]))]
                row = {
                    "sample_id": f"s{chunk % 3}/{chunk}-{number}",
                    "split": rng.choice(order.SPLITS),
                    "question": "é" * rng.randint(1, 90),
                    "prompt_tokens": rng.randint(1, 900),
                    "answer_type": rng.choice(ANSWER_TYPES),
                    "image_ids": [f"s/0-{i}/{'0' * 64}.png" for i in range(len(sides) // 2)],
                    "image_sides": sides,
                    "content_hash": bytes(16),
                    "row_number": number,
                    "reason": rng.choice([None, None, "bad"]),
                }
                records.append(row)
                if row["reason"] is None:
                    self.rows.append({**row, "source": chunk % 3})
            tables.append(pa.Table.from_pylist(records, staging.CHECKED))
        self.keys = Keys.join([Keys.of_chunk(table, seed) for table in tables])
        self.facts = Facts.join([Facts.of_chunk(table) for table in tables])
        self.owner = np.array([number % 3 for number in range(chunks)])[self.keys.chunk]
        self.kept = np.array([rng.random() < 0.8 for _ in self.rows], bool)
        self.sources = [SimpleNamespace(name=f"s{n}", limit=rng.choice([None, 1, 5, 9, 10**6])) for n in range(3)]


def summary_of(rows):
    summary = SourceSummary()
    for row in rows:
        summary.accept({**row, "answer": "A"}, row["prompt_tokens"], [], cut=False)
    return summary


@pytest.mark.parametrize("seed", range(10))
def test_limits_against_plain_python(seed):
    made = Made(seed)
    kept_rows = [row for row, kept in zip(made.rows, made.kept, strict=True) if kept]
    summaries = [summary_of([row for row in kept_rows if row["source"] == number]) for number in range(3)]
    before = [summary.rows for summary in summaries]
    kept = keep_limits(made.keys, made.facts, made.kept, made.owner, made.sources, summaries, seed)
    place = dict(zip((row["sample_id"] for row in made.rows), mix_keys(seed, made.keys.id).tolist(), strict=True))
    wanted = set()
    for number, source in enumerate(made.sources):
        for split in order.SPLITS:
            mine = [row["sample_id"] for row in kept_rows if (row["source"], row["split"]) == (number, split)]
            wanted.update(sorted(mine, key=place.get)[: source.limit])
    found = [row for row, here in zip(made.rows, kept, strict=True) if here]
    assert {row["sample_id"] for row in found} == wanted
    for number, (summary, rows) in enumerate(zip(summaries, before, strict=True)):
        mine = summary_of([row for row in found if row["source"] == number])
        assert summary.over_limit == rows - mine.rows
        assert summary.rows == rows  # what was checked, whatever is left of it
        for name in ("images", "question", "prompt", "imageless"):
            assert getattr(summary, name) == getattr(mine, name), name
        for name in ("splits", "answer_types"):
            assert +getattr(summary, name) == getattr(mine, name), name


@pytest.mark.parametrize("seed", range(6))
def test_statistics_against_plain_python(seed):
    made = Made(seed)
    told = statistics(made.keys, made.facts, made.kept, made.owner, [source.name for source in made.sources])
    kept_rows = [row for row, kept in zip(made.rows, made.kept, strict=True) if kept]
    wanted = []
    for number, source in enumerate(made.sources):
        for split in order.SPLITS:
            if mine := [row for row in kept_rows if (row["source"], row["split"]) == (number, split)]:
                sides = [
                    max(pair) for r in mine for pair in zip(r["image_sides"][::2], r["image_sides"][1::2], strict=True)
                ]
                wanted.append(
                    {
                        "source": source.name,
                        "split": split,
                        "rows": len(mine),
                        "imageless": sum(not row["image_ids"] for row in mine),
                        "prompt_tokens": sum(row["prompt_tokens"] for row in mine),
                        "answer_types": dict(Counter(row["answer_type"] for row in mine)),
                        "question": nearest(len(row["question"]) for row in mine),
                        "images": nearest(len(row["image_ids"]) for row in mine),
                        "side": nearest(sides),
                    }
                )
    assert told == wanted
    assert json.loads(json.dumps(told)) == told


def nearest(values):
    """Of each percentile the first value that as many are not above."""
    ranked = sorted(values)
    return [ranked[max(1, -(-len(ranked) * percent // 100)) - 1] for percent in PERCENTILES] if ranked else []


def mixed(preparing, count=60):
    """Sources with all of it: a thinned one, a limited one of four files with repeated ids, and the test split."""
    for size in range(8, 12):
        (preparing.folder / f"{size}.png").write_bytes(png(size, 20))
    rows = [record(number, f"{8 + number % 4}.png", f"Answer {number}.") for number in range(count)]
    (preparing.folder / "more").mkdir(exist_ok=True)
    for part in range(4):
        lines = [json.dumps({**row, "id": row["id"] % 25}) for row in rows[part::4]]
        (preparing.folder / "more" / f"{part}.jsonl").write_text("\n".join(lines))
    rows[3]["conversations"] = []
    train, test = preparing.files({"train": rows, "test": rows[:9]})
    more = {"name": "more", "path": str(preparing.folder / "more"), "repeated_ids": "number", "limit": 20}
    return [
        {**train, "weight": 0.4, "prompt_suffix": "Be brief."},
        {**train, **more, "image_root": str(preparing.folder)},
        {**test, "limit": 5},
    ]


def by_workers(workers):
    """Instead of Preparing.chunks: so many parts are read at once, and whichever is next gives a chunk."""

    def chunks(self, config):
        rng, receipts, busy = random.Random(workers), [], []
        waiting = [
            (at, source, part) for at, source in enumerate(config.prepare.sources) for part in parts_of(source, "")
        ]
        rng.shuffle(waiting)
        while waiting or busy:
            while waiting and len(busy) < workers:
                at, source, part = waiting.pop()
                busy.append((at, prepare._chunks(source, part, config, self.run)))
            worker = rng.choice(busy)
            found = next(worker[1], None)
            if found is None:
                busy.remove(worker)
                continue
            name, rows, ending = found
            packed = pa.array([pickle.dumps((rows, ending))], pa.binary())
            batch = pa.table({"source": [worker[0]], "name": [name], "rows": packed})
            receipts.append(pickle.loads(prepare._check(batch, config, self.run)["chunk"][0].as_py()))
        return sorted(receipts, key=lambda chunk: (chunk.source, chunk.name)), 0

    return chunks


def test_one_worker_and_four_and_chunks_of_any_size_give_the_same_rows(preparing, monkeypatch):
    """With chunks of one size every file is the same, byte for byte."""
    told, tables, files = [], [], []
    sources = mixed(preparing)
    for workers, rows in ((1, 7), (4, 7), (4, 512)):
        monkeypatch.setattr(staging, "ROWS", rows)
        monkeypatch.setattr(Preparing, "chunks", by_workers(workers))
        told.append(preparing(sources)[0])
        tables.append([read_split(preparing.run, split).drop_columns("image_ids") for split in order.SPLITS])
        files.append({name: preparing.run.read(name) for name in preparing.run.names()})
    assert told[0] == told[1]
    assert told[0]["mix"] == told[2]["mix"]
    assert files[0] == files[1]
    assert tables[0] == tables[1] == tables[2]
    assert len(told[0]["mix"]) == 3


def test_what_is_left_out_is_counted_and_is_no_reject(preparing):
    """Nor do rows over the limit make the share of rejects larger."""
    counts, summary = preparing(mixed(preparing), max_reject_ratio=0.03)
    told, rows = counts["sources"], read_split(preparing.run, "train").to_pylist()
    kept = [row["sample_id"] for row in rows if row["source"] == "train"]
    source = SimpleNamespace(name="train", weight=0.4)
    assert set(kept) == {f"train/{n}" for n in range(60) if n != 3 and not is_thinned(source, "train", str(n), 0)}
    assert all(row["question"].endswith("\nBe brief.") == (row["source"] == "train") for row in rows)
    assert told["train"]["thinned"] == sum(is_thinned(source, "train", str(n), 0) for n in range(60))
    assert [told["more"][name] for name in ("thinned", "over_limit", "splits")] == [0, 40, {"train": 20}]
    assert [told["test"][name] for name in ("thinned", "over_limit", "splits")] == [0, 3, {"test": 5}]
    assert counts["rejects"]["conversation is missing"] == counts["rows"] - len(rows) - 5 - 43
    left_out = f"{told['train']['thinned']} left out by weight"
    assert re.search(rf"train: \d+ rows: {len(kept)} train; {left_out}; images a row 1;", preparing.printed)
    assert "more: 60 rows: 20 train; 40 over the limit; images a row 1; answers 20 text" in preparing.printed
    assert [(found["source"], found["split"], found["rows"]) for found in counts["mix"]] == [
        ("train", "train", len(kept)),
        ("more", "train", 20),
        ("test", "test", 5),
    ]
    assert counts["mix"][1]["side"] == [20] * 5
    assert summary.startswith(f"{len(rows)} train, 5 test samples")


def test_a_limited_source_does_not_come_first_in_training(preparing):
    train, test = preparing.files({"train": [record(number) for number in range(120)], "test": [record(0)]})
    (preparing.folder / "other.jsonl").write_text((preparing.folder / "train.jsonl").read_text())
    other = {**train, "name": "other", "path": str(preparing.folder / "other.jsonl")}
    preparing([{**train, "limit": 40}, other, test])
    sources = read_split(preparing.run, "train")["source"].to_pylist()
    assert len(sources) == 160
    assert 12 <= sources[:80].count("train") <= 28


def test_fields_that_are_left_out_change_no_digest_and_no_byte(preparing):
    def files_of(**fields):
        preparing(preparing.files({"train": [record(n) for n in range(30)], "test": [record(0)]}, **fields))
        return {name: preparing.run.read(name) for name in preparing.run.names("samples")}

    plain = files_of()
    assert plain == files_of(weight=1, limit=None, prompt_suffix=None) == files_of(limit=30)
    assert plain != files_of(limit=29)
    (source,) = preparing.config([{"type": "charts", "train_images": 3}]).prepare.sources
    assert fingerprint(source, "") == {"type": "charts", "train_images": 3}
    same = {"type": "charts", "train_images": 3, "weight": 1.0, "limit": None, "prompt_suffix": None}
    assert fingerprint(preparing.config([same]).prepare.sources[0], "") == fingerprint(source, "")
    for field in ({"weight": 0.5}, {"limit": 5}, {"prompt_suffix": "Be brief."}):
        (other,) = preparing.config([{"type": "charts", "train_images": 3, **field}]).prepare.sources
        assert fingerprint(other, "") == {"type": "charts", "train_images": 3, **field}


def test_a_weight_that_leaves_nothing_is_an_error(preparing):
    sources = preparing.files({"train": [record(0), record(1)], "test": [record(0)]}, weight=1e-9)
    with pytest.raises(ValueError, match=r"sources\[train\]\.weight = 1e-09: none of its 2 rows is used\. Raise it"):
        preparing(sources)


def test_a_chunk_of_an_older_masters_is_read_anew(preparing):
    config = preparing.config(preparing.files({"train": [record(0), record(1)], "test": [record(0)]}))
    assert [preparing.chunks(config)[1] for _ in range(2)] == [3, 0]
    path = f"{preparing.run.local_path}/staging/train/00000-00000-00000.parquet"
    table = pq.read_table(path)
    pq.write_table(table.drop_columns("image_sides"), path)
    assert preparing.chunks(config)[1] == 2
    assert pq.read_table(path).equals(table)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, ""),
        ({"weight": 0.25}, "weight 0.25 of train"),
        ({"limit": 1}, "at most 1 row of each split"),
        ({"weight": 0.5, "limit": 2000}, "weight 0.5 of train, at most 2,000 rows of each split"),
    ],
)
def test_the_mix_in_words(fields, words):
    assert mixing.mix_words(SimpleNamespace(**{"weight": 1.0, "limit": None, **fields})) == words
