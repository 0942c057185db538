"""Some answers that training changed, won and lost, for the report: drawn while questions and images are still there."""

import io
import random
from typing import Any

import pyarrow as pa
from PIL import Image

from masters.benchmarks import Question
from masters.data.image_shards import read_image
from masters.data.images import upright_rgb
from masters.data.storage import Storage
from masters.data.tables import BENCHMARK_CHANGES
from masters.stages.benchmark_files import Prepared, images_of, shown_images

_EACH = 3  # won ones, and as many lost ones, of a benchmark
_SIDE = 320
_QUALITY = 85


def changed_answers(one: Prepared, baseline: pa.Table, student: pa.Table, seed: int, run: Storage) -> pa.Table:
    """Of a benchmark, in the order of its file. The seed decides which; the same answers give the same bytes.

    Args:
        one: the benchmark, whose questions and images are in the run directory.
        baseline: its answers, by row of the file.
        student: the same.
        seed: of the recipe.
        run: the run directory.
    """
    pairs = list(zip(one.questions, baseline.to_pylist(), student.to_pylist(), strict=True))
    picked = []
    for won in (True, False):
        rows = [place for place, (_, before, after) in enumerate(pairs) if _change(before, after) == won]
        picked += random.Random(f"{seed}/{one.name}/{won}").sample(rows, min(_EACH, len(rows)))
    store, images = images_of(run, one.name), shown_images(run, one.name)
    records = []
    for place in sorted(picked):
        question, before, after = pairs[place]
        records.append(
            {
                "benchmark": one.name,
                "sample_id": question.index,
                "won": _change(before, after),
                "question": _in_words(question),
                "answer": question.answer,
                "baseline": before["text"],
                "student": after["text"],
                "baseline_value": before["value"],
                "student_value": after["value"],
                "images": [_small(read_image(store, name)) for name in images[question.index]],
            }
        )
    return pa.Table.from_pylist(records, schema=BENCHMARK_CHANGES)


def _change(before: dict[str, Any], after: dict[str, Any]) -> bool | None:
    """Whether the second answer is worth more, or less; None where both are worth the same, or one is worth nothing known."""
    values = before["value"], after["value"]
    return None if None in values or values[0] == values[1] else values[1] > values[0]


def _in_words(question: Question) -> str:
    options = [f"{letter}. {text}" for letter, text in question.options.items()]
    return "\n".join([*filter(None, [question.hint, question.question]), *options])


def _small(content: bytes) -> bytes:
    with Image.open(io.BytesIO(content)) as opened:
        image = upright_rgb(opened)
    image.thumbnail((_SIDE, _SIDE))
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=_QUALITY)
    return sink.getvalue()
