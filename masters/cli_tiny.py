"""The commands `tiny ...`: how the models are made that ship in models/, and random ones of every family."""

import json
import os
import time
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Tiny models of a real architecture, for a run on one CPU machine.", no_args_is_help=True)


@app.command()
def train(
    size: Annotated[str, typer.Argument(help="teacher, student or judge.")],
    folder: Annotated[Path, typer.Argument(help="Folder to write the model to.")],
    seed: Annotated[int, typer.Option(help="Of weights and data.")] = 0,
    steps: Annotated[int, typer.Option(min=0, help="Steps; 0 for as many as the size needs.")] = 0,
) -> None:
    """Train a tiny Qwen2.5-VL on charts drawn for it, and measure it on images that it never saw; a judge, on responses."""
    from masters.judging import tiny_judge
    from masters.models import tiny_training
    from masters.reporting.progress import Screen

    needed = {**tiny_training.STEPS, "judge": tiny_judge.STEPS}
    if size not in needed:
        raise ValueError(f"{size}: no such size. Sizes: {', '.join(needed)}.")
    steps, began, screen = steps or needed[size], time.monotonic(), Screen()
    with screen.track("tiny", steps, "steps") as tracker:

        def progress(_: int, loss: float) -> None:
            tracker.advance(1, f"loss {loss:.3f}")

        if size == "judge":
            measured = tiny_judge.train_folder(folder, steps, seed, progress)
        else:
            measured = tiny_training.train_folder(size, folder, tiny_training.TinyRecipe(steps, seed), progress)
    command = f"masters tiny train {size} {folder} --seed {seed} --steps {steps}"
    (folder / "training.json").write_text(json.dumps({"command": command, **measured}, indent=1) + "\n")
    share, of = ("agreement", "responses") if size == "judge" else ("accuracy", "questions")
    words = f"{share} {100 * measured[share]:.1f} % of {measured[of]} test {of}"
    screen.line("tiny", f"{folder}: {measured['parameters']:,} weights, {words}", time.monotonic() - began)


@app.command()
def make(
    family: Annotated[
        str, typer.Argument(help="qwen2_5_vl, qwen3_vl, qwen3_vl_moe, internvl3, internvl3_5 or internvl3_5_moe.")
    ],
    folder: Annotated[Path, typer.Argument(help="Folder to write the model to.")],
    size: Annotated[str, typer.Option(help="student, or teacher: wider and deeper.")] = "student",
    seed: Annotated[int, typer.Option(help="Of the weights.")] = 0,
) -> None:
    """Make a tiny model of a family with random weights and the real processor: it answers nonsense, and everything runs."""
    if (folder / "config.json").exists():
        raise ValueError(f"{folder}: holds a model already. Name another folder.")
    began = time.monotonic()
    os.environ.setdefault(
        "DS_ACCELERATOR", "cpu"
    )  # else DeepSpeed, which transformers imports, says what it did not find
    from transformers.utils import logging

    from masters.models import tiny_families
    from masters.reporting.progress import Screen

    logging.disable_progress_bar()
    weights = tiny_families.make(family, folder, size, seed)
    Screen().line("tiny", f"{folder}: {family}, {weights:,} random weights", time.monotonic() - began)
