"""The whole story of samples, from the tables of a run: for the gallery of the report and for `masters show`."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Table
from rich.text import Text

from masters.data.image_shards import read_image
from masters.data.images import upright_rgb
from masters.data.metrics import reward_files
from masters.data.samples import find_sample, train_total
from masters.data.shards import holding
from masters.data.storage import Storage
from masters.data.tables import PREDICTIONS, REJECTS, RESPONSES, REWARDS, VERDICTS


@dataclass
class Story:
    """A sample, its responses with verdicts and rewards, and what each evaluated model answered."""

    sample: dict[str, Any]
    responses: list[dict[str, Any]] = field(default_factory=list)
    predictions: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_stories(run: Storage, samples: Sequence[dict[str, Any]]) -> list[Story]:
    """Stories of rows of the samples table, in their order, from the few tables that hold their positions.

    Stages that have not run leave gaps. What is left of an earlier recipe is not read.
    """
    stories = {sample["sample_id"]: Story(sample) for sample in samples}
    ids, total = list(stories), train_total(run)
    positions = [sample["position"] for sample in samples if sample["split"] == "train"]
    facts: dict[tuple[str, str, int], dict[str, Any]] = {}
    verdicts = holding(run.names("verdicts", ".parquet"), positions)
    for names, schema in ((verdicts, VERDICTS), (reward_files(run, positions, total), REWARDS)):
        for row in run.find(names, schema, "sample_id", ids).to_pylist():
            facts.setdefault((row["sample_id"], row["author"], row["index"]), {}).update(row)
    for row in run.find(
        holding(run.names("responses", ".parquet"), positions), RESPONSES, "sample_id", ids
    ).to_pylist():
        known = facts.get((row["sample_id"], row["author"], row["index"]), {})
        stories[row["sample_id"]].responses.append({**known, **row})
    for name in run.names("evaluation", "/predictions.parquet"):
        for row in run.find([name], PREDICTIONS, "sample_id", ids).to_pylist():
            stories[row["sample_id"]].predictions[name.split("/")[1]] = row
    for story in stories.values():
        story.responses.sort(key=lambda r: (r["author"] == "label", r["author"] == "student", r["author"], r["index"]))
    return list(stories.values())


def tell(run: Storage, sample_id: str, console: Console | None = None, save_images: Path | None = None) -> None:
    """Print one sample's story, and write its images as files to the folder `save_images`.

    Raises:
        ValueError: for a folder of no run, an id that is no sample of it, and a folder that cannot be written.
    """
    if not run.exists("run.json"):
        raise ValueError(
            f"{run.uri}: is no run directory: run.json is not there. `masters check RECIPE` names the run's."
        )
    console = console or Console(highlight=False, soft_wrap=True, emoji=False)
    sample = find_sample(run, sample_id)
    if sample is None:
        _tell_reject(run, sample_id)
        return
    (story,) = read_stories(run, [sample])
    place = f"  {sample['split']}, position {sample['position']}  {' '.join(sample['levels'])}"
    console.print(Text.assemble((sample_id, "bold"), place))
    for line in _image_lines(run, sample["image_ids"], save_images):
        console.print(line, markup=False)
    if sample["system"]:
        console.print(f"system    {sample['system']}", markup=False)
    for number, turn in enumerate(sample["history"]):
        console.print(f"{'answer' if number % 2 else 'question':<9} {turn}", markup=False)
    console.print(f"question  {sample['question']}", markup=False)
    console.print(f"accepted  {' | '.join(sample['answers'])}", markup=False)
    if story.responses:
        console.print(_responses_table(story.responses))
    for name, prediction in story.predictions.items():
        console.print(f"{name:<9} {'right' if prediction['correct'] else 'wrong'}: {prediction['text']}", markup=False)


def _image_lines(run: Storage, image_ids: Sequence[str], save_to: Path | None) -> Iterator[str]:
    """Sizes are those that models see: upright, width first."""
    if save_to and not image_ids:
        yield "image     none: nothing was saved"
    for image_id in image_ids:
        try:
            content = read_image(run, image_id)
        except (FileNotFoundError, KeyError):
            yield f"image     {image_id}  is no longer in {run.address('images')}"
            continue
        with Image.open(io.BytesIO(content)) as opened:
            width, height = upright_rgb(opened).size
        saved = f"  saved as {_saved(save_to, image_id, content)}" if save_to else ""
        yield f"image     {image_id}  {width} x {height}{saved}"


def _saved(folder: Path, image_id: str, content: bytes) -> Path:
    path = folder / image_id.rpartition("/")[2]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise ValueError(
            f"--save-images {folder}: cannot be written: {error.strerror}. Name a folder of yours."
        ) from error
    return path


def _responses_table(responses: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for heading in ("author", "", "response", "verdict", "D", "R_distill", "A", "log p"):
        table.add_column(heading, justify="left" if heading in ("author", "response", "verdict") else "right")
    for row in responses:
        numbers = [_number(row.get(key)) for key in ("divergence", "distill_reward", "advantage", "log_probability")]
        text = row["text"] if row["finish_reason"] == "stop" else f"{row['text']} [cut off]"
        table.add_row(row["author"], str(row["index"]), Text(text), verdict_word(row), *numbers)
    return table


def _tell_reject(run: Storage, sample_id: str) -> None:
    source, _, row = sample_id.partition("/")
    for reject in run.find(run.names("rejects", ".parquet"), REJECTS, "row", [row, sample_id]).to_pylist():
        if reject["source"] == source or reject["row"] == sample_id:
            raise ValueError(f"{sample_id}: was rejected: {reject['reason']} ({reject['detail']})")
    raise ValueError(f"{sample_id}: no such sample in {run.uri}. Ids look like charts/000017-0: <source>/<row id>.")


def verdict_word(row: dict[str, Any]) -> str:
    """right, wrong or null; nothing before score."""
    if "verdict" not in row:
        return ""
    return {1: "right", 0: "wrong", None: "null"}[row["verdict"]]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
