"""The questions of benchmarks, brought into the run directory: every row checked once, images as prepare checks them.

They lie there until evaluate is done, so that engines on any node read the same rows and pixels. A row that no model can be
asked (a broken image, a token of chat templates in its text, a prompt too long) is a reject with its reason; it counts as wrong.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from masters.benchmarks import Benchmark, Prompt, Question, prompt, read
from masters.benchmarks.recipe import Wanted, wanted
from masters.config.run import RunConfig
from masters.data.image_shards import ImageShards
from masters.data.images import CheckedImage, check_content
from masters.data.rejects import RejectError
from masters.data.rows import Reserved
from masters.data.storage import Storage
from masters.data.tables import BENCHMARK_QUESTIONS, REJECTS
from masters.reporting.progress import Screen
from masters.stages.prepare import prompt_counter

FOLDER = "evaluation/benchmarks/questions"  # names of benchmarks begin with a capital letter
_TABLE, _DONE = "questions.parquet", "done.json"

Counter = Callable[[Sequence[dict[str, Any]], Sequence[tuple[int, int]]], int]
"""Tokens of a chat's prompt, with images of these sizes."""


@dataclass(frozen=True)
class Prepared:
    """A benchmark in the run directory.

    Attributes:
        wanted: what the recipe says of it.
        md5: of the file that was read.
        questions: all rows in the order of the file, without images.
        remarks: on the file.
        quarantined: indexes of rows that no model can be asked.
        images_per_prompt: most images in a prompt.
    """

    wanted: Wanted
    md5: str
    questions: tuple[Question, ...]
    remarks: tuple[str, ...]
    quarantined: frozenset[str]
    images_per_prompt: int

    @property
    def benchmark(self) -> Benchmark:
        """Whose questions they are."""
        return self.wanted.benchmark

    @property
    def name(self) -> str:
        """Of the benchmark."""
        return self.wanted.name

    @property
    def askable(self) -> int:
        """Number of rows that models are asked: positions of shards count these only."""
        return len(self.questions) - len(self.quarantined)


def prepare_benchmarks(config: RunConfig, run: Storage, screen: Screen) -> list[Prepared]:
    """Bring all that the recipe wants; what is there already stays as it is.

    Raises:
        ValueError: where a file cannot be used.
    """
    found = wanted(config)
    missing = [place for place, one in enumerate(found) if not run.exists(_done(one.name))]
    if missing:
        import ray

        from masters.stages.cluster import connect, remote_options

        connect()
        bring = ray.remote(**remote_options(config.resources.prepare))(bring_questions)
        with screen.track("evaluate", len(missing), "benchmarks read") as tracker:
            for task in [bring.remote(place, config, run) for place in missing]:
                ray.get(task)
                tracker.advance()
    return [_brought(one, run) for one in found]


def bring_questions(place: int, config: RunConfig, run: Storage) -> None:
    """Read the benchmark at a place of the recipe, and write its questions, images and rejects. Raises ValueError."""
    one = wanted(config)[place]
    file = read(one.benchmark, one.path)
    counter = prompt_counter(config.student.path, config.hub_token_env, config.images, config.hub_mirror)
    reserved = Reserved.of(counter.family)
    shards = ImageShards(_store(run, one.name), "part")
    longest = config.engine.max_model_len - one.max_tokens
    records, rejects, most = list[dict[str, Any]](), list[dict[str, Any]](), 0
    for question in file.with_images():
        asked = prompt(one.benchmark, question, one.style)
        record = {"sample_id": question.index, "question": _as_json(question), "pieces": json.dumps(asked.pieces)}
        try:
            images = check(question, asked, reserved, config.prepare.max_image_pixels, longest, counter.chat)
        except RejectError as reject:
            records.append({**record, "image_ids": [], "reason": reject.reason})
            said = {"reason": reject.reason, "detail": reject.detail}
            rejects.append({"source": one.name, "row": question.index, **said})
        else:
            records.append({**record, "image_ids": [shards.add(image) for image in images]})
            most = max(most, len(asked.images))
    shards.close()
    if rejects:
        table = pa.Table.from_pylist(rejects, schema=REJECTS)
        run.write_table(f"rejects/evaluate/{one.name}.parquet", table)
    store = _store(run, one.name)
    store.write_table(_TABLE, pa.Table.from_pylist(records, schema=BENCHMARK_QUESTIONS))
    run.write_json(_done(one.name), {"md5": file.md5, "remarks": file.remarks, "images_per_prompt": most})


def check(
    question: Question, asked: Prompt, reserved: Reserved, max_pixels: int, longest: int, count: Counter
) -> list[CheckedImage]:
    """The question's images, in its order.

    Args:
        question: with its images.
        asked: its prompt.
        reserved: tokens that its texts must not hold.
        max_pixels: of an image.
        longest: prompt, in tokens.
        count: tokens of a chat.

    Raises:
        RejectError: where no model can be asked.
    """
    for piece in asked.pieces:
        if isinstance(piece, str) and (token := reserved.found_in(piece)):
            raise RejectError("question holds a token reserved for chat templates", token)
    images = [check_content(content, max_pixels) for content in question.images]
    shown = [images[number] for number in asked.images]
    try:
        tokens = count(chat_of(asked), [(image.width, image.height) for image in shown])
    except ValueError as error:
        raise RejectError("the model's processor refuses the row", str(error)) from error
    if tokens > longest:
        raise RejectError(
            "prompt is too long", f"{tokens} tokens; engine.max_model_len leaves {longest} beside the answer"
        )
    return images


def chat_of(asked: Prompt) -> list[dict[str, Any]]:
    """One user turn, texts and images at their places."""
    return [{"role": "user", "content": asked.content}]


def read_rows(run: Storage, name: str, start: int, stop: int) -> list[dict[str, Any]]:
    """Rows of a benchmark's table that models are asked, at positions start <= position < stop among them."""
    table = _store(run, name).read_table(_TABLE)
    return table.filter(pc.is_null(table["reason"])).slice(start, stop - start).to_pylist()


def images_of(run: Storage, name: str) -> Storage:
    """Where `masters.data.image_shards.read_image` finds a benchmark's images."""
    return _store(run, name)


def shown_images(run: Storage, name: str) -> dict[str, list[str]]:
    """Names of the images of each row of a benchmark, in its order; none where no model can be asked."""
    rows = _store(run, name).read_table(_TABLE, ["sample_id", "image_ids"]).to_pylist()
    return {row["sample_id"]: row["image_ids"] for row in rows}


def prompt_of(row: dict[str, Any]) -> Prompt:
    """The prompt of a row."""
    return Prompt(tuple(json.loads(row["pieces"])))


def question_of(row: dict[str, Any]) -> Question:
    """The question of a row, without images."""
    return Question(**json.loads(row["question"]))


def _as_json(question: Question) -> str:
    kept = {name: value for name, value in vars(question).items() if name != "images"}
    return json.dumps(kept, ensure_ascii=False)


def _brought(one: Wanted, run: Storage) -> Prepared:
    rows = _store(run, one.name).read_table(_TABLE, ["sample_id", "question", "reason"]).to_pylist()
    told = run.read_json(_done(one.name))
    barred = frozenset(row["sample_id"] for row in rows if row["reason"])
    questions = tuple(map(question_of, rows))
    return Prepared(one, told["md5"], questions, tuple(told["remarks"]), barred, told["images_per_prompt"])


def _store(run: Storage, name: str) -> Storage:
    return run.folder(f"{FOLDER}/{name}")


def _done(name: str) -> str:
    return f"{FOLDER}/{name}/{_DONE}"
