"""Summaries of sources: parts together tell what the whole does, and what people read of them."""

import json
import random
from itertools import pairwise

import pytest

from masters.data.summary import SourceSummary, Spread

KINDS = ("text", "number", "integer", "choice")
REASONS = ("image is corrupt", "answer is missing", "id is missing")


def sample(**fields):
    default = {"split": "train", "image_ids": ["a"], "question": "What?", "answer": "A cat.", "answer_type": "text"}
    return {**default, **fields}


def random_rows(seed, count):
    """(sample, tokens, notes, cut) of accepted rows, (key, reason, detail) of rejects, and None of rows left out."""
    rng = random.Random(seed)
    for number in range(count):
        kind = rng.random()
        if kind < 0.1:
            yield None
        elif kind < 0.3:
            yield f"r{number}", rng.choice(REASONS), rng.choice(["", f"found {number}"])
        else:
            row = sample(
                split=rng.choice(["train", "test", "validation"]),
                image_ids=["i"] * rng.choice([0, 0, 1, 2, 5]),
                question="Q" * rng.randint(1, 300),
                answer=rng.choice(["x", "y", "z" * 600, "z" * 600 + "!", "w" * rng.randint(1, 40)]),
                answer_type=rng.choice(KINDS),
            )
            yield row, rng.randint(5, 900), rng.sample(["blanks", "tools", "marks"], rng.randint(0, 2)), kind > 0.9


def counted(rows):
    summary = SourceSummary()
    for row in rows:
        if row is None:
            summary.skipped += 1
        elif len(row) == 3:
            summary.reject(*row)
        else:
            one, tokens, notes, cut = row
            summary.accept(one, tokens, notes, cut=cut)
    summary.images_found, summary.images_missing = len(rows), sum(row is None for row in rows)
    summary.first_missing = next((f": first tried {row[0]}" for row in rows if row and len(row) == 3), "")
    return summary


@pytest.mark.parametrize("seed", range(12))
def test_parts_together_are_the_whole(seed):
    rows = list(random_rows(seed, 120))
    rng = random.Random(seed)
    cuts = [0, *sorted(rng.sample(range(1, 120), seed)), 120]
    merged = SourceSummary()
    for start, end in pairwise(cuts):
        merged.merge(counted(rows[start:end]))
    whole = counted(rows)
    assert merged == whole
    assert list(merged.lines("s")) == list(whole.lines("s"))
    assert list(merged.warnings("s")) == list(whole.warnings("s"))


@pytest.mark.parametrize("seed", range(4))
def test_plain_data_and_back(seed):
    whole = counted(list(random_rows(seed, seed * 40)) or [None])
    back = SourceSummary.from_json(json.loads(json.dumps(whole.to_json())))
    assert back == whole
    assert list(back.lines("s")) == list(whole.lines("s"))
    back.merge(whole)  # counters are counters again
    assert back.rows == 2 * whole.rows


@pytest.mark.parametrize(
    ("values", "facts", "said"),
    [
        ([], (0, 0, 0, 0), "0"),
        ([7], (1, 7, 7, 7), "7"),
        ([0, 3], (2, 3, 0, 3), "0 to 3, mean 1.5"),
        ([3, 0], (2, 3, 0, 3), "0 to 3, mean 1.5"),
        ([4, 4, 4], (3, 12, 4, 4), "4"),
        ([1200, 3], (2, 1203, 3, 1200), "3 to 1,200, mean 601.5"),
    ],
)
def test_a_spread(values, facts, said):
    spread = Spread()
    for value in values:
        spread.add(value)
    assert (spread.n, spread.total, spread.smallest, spread.largest) == facts
    assert str(spread) == said
    for cut in range(len(values) + 1):
        parts = Spread(), Spread()
        for place, value in enumerate(values):
            parts[place >= cut].add(value)
        parts[0].merge(parts[1])
        assert parts[0] == spread


TWO = [(sample(answer="A cat."), 20, [], False), (sample(answer="A dog."), 30, [], False)]
DIALOGUE = "Who is it?\n\n" + "x" * 100
GOLDEN = {
    "nothing": ([], {}, ["s: 0 rows: none"], []),
    "two rows": (
        TWO,
        {},
        [
            "s: 2 rows: 2 train; images a row 1; answers 2 text; characters of a question 5; tokens of a prompt 20 to 30, mean 25.0"
        ],
        [],
    ),
    "of everything some": (
        [
            *TWO,
            (sample(split="test", image_ids=[], question="Why??", answer="5", answer_type="integer"), 10, [], False),
            (sample(image_ids=["a", "b", "c"]), 40, [], False),
            None,
            ("r7", "image is corrupt", "r7.png: cut off"),
            ("r8", "image is corrupt", "r8.png: cut off"),
            ("r9", "answer is missing", ""),
        ],
        {},
        [
            "s: 7 rows: 3 train, 1 test; 1 left out by the recipe; images a row 0 to 3, mean 1.2 (1 without); "
            "answers 3 text, 1 integer; characters of a question 5; tokens of a prompt 10 to 40, mean 25.0",
            "s: 3 rejects: image is corrupt (2, for example r7: r7.png: cut off); answer is missing (1, for example r9)",
        ],
        [],
    ),
    "rejects only": (
        [("r1", "id is missing", DIALOGUE)],
        {},
        ["s: 1 row: none", f"s: 1 reject: id is missing (1, for example r1: Who is it? {'x' * 62}...)"],
        [],
    ),
    "many kinds of rejects": (
        [(f"r{n}", f"reason {n}", "") for n in (1, 2, 3, 4)] + [("x", "reason 4", "")],
        {},
        [
            "s: 5 rows: none",
            "s: 5 rejects: reason 4 (2, for example r4); reason 1 (1, for example r1); reason 2 (1, for example r2); and 1 other reason",
        ],
        [],
    ),
    "no images": (
        [(sample(answer=answer, image_ids=[]), 9, [], False) for answer in ("A cat.", "A dog.")],
        {},
        [
            "s: 2 rows: 2 train; images a row 0 (2 without); answers 2 text; characters of a question 5; tokens of a prompt 9"
        ],
        ["s: no row has an image. Name the field that holds them: images."],
    ),
    "equal answers": (
        [(sample(), 9, [], False)] * 2,
        {},
        None,
        ["s: all answers are equal: A cat. (Is this the field with the answer?)"],
    ),
    "one answer is not all answers": ([(sample(), 9, [], False)], {}, None, []),
    "equal answers of one character are told once": (
        [(sample(answer="A"), 9, [], False)] * 2,
        {},
        None,
        ["s: all answers are equal: A (Is this the field with the answer?)"],
    ),
    "answers of one character": (
        [(sample(answer=answer), 9, [], False) for answer in "AB"],
        {},
        None,
        ["s: all answers are one character. For multiple choice set choices, or answer_type: choice."],
    ),
    "answers of one character that are declared": (
        [(sample(answer=answer, answer_type="choice"), 9, [], False) for answer in "AB"],
        {},
        None,
        [],
    ),
    "long answers": (
        [*TWO, (sample(answer="x" * 9000), 9, [], True)],
        {},
        None,
        ["s: 1 answer with more tokens than generate.max_tokens and evaluate.max_tokens allow"],
    ),
    "images that were not found": (
        TWO,
        {"images_found": 3000, "images_missing": 1200, "first_missing": " below /data: first tried /data/a.png"},
        None,
        ["s: 1,200 of 4,200 images were not found below /data: first tried /data/a.png"],
    ),
    "notes, the commonest first": (
        [(one, 9, notes, False) for (one, *_), notes in zip(TWO, (["seldom", "often"], ["often"]), strict=True)],
        {},
        None,
        ["s: 2 rows: often", "s: 1 row: seldom"],
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_what_people_read(name):
    rows, facts, lines, warnings = GOLDEN[name]
    summary = counted(rows)
    summary.images_missing, summary.first_missing = 0, ""
    for field, value in facts.items():
        setattr(summary, field, value)
    assert list(summary.warnings("s")) == warnings
    if lines is not None:
        assert list(summary.lines("s")) == lines


def test_that_no_row_has_an_image_is_said_when_repeated_ids_were_taken_out_again():
    summary = counted([(sample(answer=answer, image_ids=[]), 9, [], False) for answer in ("A", "B", "C.")])
    summary.splits["train"] -= 1
    summary.reject("r", "id is used twice", "")
    assert list(summary.warnings("s")) == ["s: no row has an image. Name the field that holds them: images."]


def test_of_long_labels_the_beginnings_are_kept():
    summary = counted([(sample(answer="x" * 10_000_000), 9, [], True)])
    assert len(json.dumps(summary.to_json())) < 2000
    assert summary.longest_answer == 10_000_000
