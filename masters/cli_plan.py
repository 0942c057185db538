"""The command `plan`: what a run will cost, before anything is started or paid for. It needs neither torch nor a network."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from masters.config.placement import Group
    from masters.config.run import RunConfig
    from masters.planning.calibration import Calibration
    from masters.planning.lengths import Lengths
    from masters.planning.plan import Plan
    from masters.planning.workload import Questions

_STAGES = ("prepare", "mask", "generate", "score", "train", "evaluate", "report")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(plan)


def plan(
    recipe: Annotated[Path, typer.Argument(help="A recipe.", show_default=False)],
    override: Annotated[list[str] | None, typer.Option("--set", help="Override a field. Repeatable.")] = None,
    values: Annotated[
        list[Path] | None, typer.Option(help="Values of the Helm chart: its groups and their GPUs. Repeatable.")
    ] = None,
    price: Annotated[
        list[str] | None, typer.Option(help="GROUP=DOLLARS_PER_HOUR of a node of the group. Repeatable.")
    ] = None,
    from_run: Annotated[
        str, typer.Option("--from", metavar="RUN", help="A finished run, whose measured times are used.")
    ] = "",
    samples: Annotated[
        int | None, typer.Option(min=1, help="Training samples, where the data are not here.", show_default=False)
    ] = None,
    prompt_tokens: Annotated[
        int | None, typer.Option(min=1, help="Of a question, image included; 1500 if unknown.", show_default=False)
    ] = None,
    response_tokens: Annotated[
        int | None, typer.Option(min=1, help="Of an answer, on average; 200 if unknown.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All numbers, for a script.")] = False,
) -> None:
    """Say what a run takes: rows, tokens, GPU-hours, time, memory, disk, money; and what does not fit."""
    from masters.cluster.nodes import parse_prices
    from masters.config.load import load_recipe
    from masters.config.placement import groups_of, placement_problems, read_values
    from masters.config.problems import RecipeError
    from masters.models.sizes import recipe_sizes
    from masters.planning.lengths import given
    from masters.planning.plan import make_plan
    from masters.planning.volumes import sizes_of_volumes
    from masters.planning.words import in_words
    from masters.planning.workload import Workload

    config, prices = load_recipe(recipe, override or ()), parse_prices(price or ())
    written = read_values(values) if values else {}
    groups = groups_of(written, ", ".join(map(str, values))) if values else None
    unknown = sorted(set(prices) - {group.name for group in groups or ()})
    if unknown:
        raise ValueError(
            f"--price {unknown[0]}: no such group. Name one of --values, which says what groups there are."
        )
    lengths, calibration = _lengths(config), None
    if from_run:
        lengths, calibration = _measured(from_run, lengths, groups)
    lengths = given(lengths, samples, prompt_tokens, response_tokens)
    load = Workload(config, recipe_sizes(config), lengths, groups, benchmarks=_benchmarks(config))
    made = make_plan(
        load,
        prices=prices,
        volumes=sizes_of_volumes(written),
        **({"calibration": calibration} if calibration else {}),
    )
    typer.echo(json.dumps(_as_data(made), indent=1) if as_json else in_words(made))
    problems = [*(placement_problems(config, groups) if groups else ()), *made.problems]
    if problems:
        raise RecipeError(str(recipe), problems)


def _benchmarks(config: "RunConfig") -> "tuple[Questions, ...]":
    """That the recipe asks, with rows as documented: their files may be elsewhere. Raises ValueError for an unknown one."""
    if not config.evaluate.benchmarks:
        return ()
    from masters.benchmarks.recipe import rows_expected, wanted
    from masters.planning.workload import Questions

    return tuple(Questions(one.name, rows_expected(one.benchmark), one.max_tokens) for one in wanted(config))


def _lengths(config: "RunConfig") -> "Lengths":
    """What the run's own directory already counted, where it is on this machine; else what is assumed."""
    from masters.planning.lengths import assumed, of_run

    lengths = assumed(config, _counted(config))
    folder = Path(os.path.abspath(config.storage.removeprefix("file://"))) / config.name
    if "://" in config.storage.removeprefix("file://") or not (folder / "run.json").is_file():
        return lengths
    theirs = json.loads((folder / "run.json").read_text(encoding="utf-8"))["recipe"].get("prepare")
    if theirs != config.prepare.model_dump(mode="json"):  # of other data
        return lengths
    counts = {stage: manifest.counts for stage, manifest in _manifests(str(folder)).items()}
    return of_run(counts, lengths, str(folder))


def _counted(config: "RunConfig") -> dict[str, int] | None:
    """Rows of files that are here, by split, charts included; None where a source is elsewhere or of another kind."""
    from masters.config.prepare import ChartsSource, FilesSource

    counted: dict[str, int] = {"train": 0, "validation": 0, "test": 0}
    for source in config.prepare.sources:
        if isinstance(source, ChartsSource):
            for split in counted:
                counted[split] += getattr(source, f"{split}_images") * source.questions_per_image
            continue
        rows = _rows(Path(source.path)) if isinstance(source, FilesSource) else None
        if rows is None:
            return None
        counted[source.split] += rows
    return counted


def _rows(path: Path) -> int | None:
    """Rows of a file whose format tells them cheaply: lines, or the footer of Parquet; None for another, or a folder."""
    if not path.is_file():
        return None
    if path.suffix == ".jsonl":
        with path.open("rb") as stream:
            return sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 24), b""))
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return int(pq.read_metadata(path).num_rows)
    return None


def _manifests(run: str) -> dict[str, Any]:
    """Of the stages that are done."""
    from masters.data.manifests import read_manifest
    from masters.data.storage import Storage

    storage = Storage(run)
    found = {stage: read_manifest(storage, stage) for stage in _STAGES}
    return {stage: manifest for stage, manifest in found.items() if manifest and manifest.status == "done"}


def _measured(run: str, fallback: "Lengths", groups: "Sequence[Group] | None") -> "tuple[Lengths, Calibration]":
    """Lengths as another run found them, samples aside; and its pace. Raises ValueError where nothing of it is done."""
    from dataclasses import replace

    from masters.config.run import RunConfig
    from masters.data.metrics import METRICS, read_metrics
    from masters.data.storage import Storage
    from masters.models.sizes import recipe_sizes
    from masters.planning.calibration import calibrate, record_of
    from masters.planning.estimate import estimate
    from masters.planning.lengths import assumed, of_run
    from masters.planning.workload import Workload

    manifests, storage = _manifests(run), Storage(run)
    if not manifests or not storage.exists("run.json"):
        raise ValueError(f"--from {run}: no stage of a run is done there. Name a run directory: <storage>/<name>.")
    try:  # its exact numbers are written as text
        config = RunConfig.model_validate_json(json.dumps(storage.read_json("run.json")["recipe"]), strict=False)
    except ValueError as error:
        raise ValueError(f"--from {run}: its recipe is of another version of Masters. Name a newer run.") from error
    counts = {stage: manifest.counts for stage, manifest in manifests.items()}
    theirs = of_run(counts, assumed(config), run)
    steps = read_metrics(storage) if storage.exists(METRICS) and "train" in manifests else []
    costs = estimate(Workload(config, recipe_sizes(config), theirs, groups, benchmarks=_benchmarks(config)))
    here = replace(theirs, samples=fallback.samples, source=f"{theirs.source}; samples: {fallback.source}")
    return here, calibrate(costs, record_of(manifests, steps))


def _as_data(made: "Plan") -> dict[str, Any]:
    """A plan as plain data; seconds, bytes and FLOP."""
    stages = [
        {
            "stage": stage.stage,
            "seconds": stage.seconds,
            "gpu_hours": stage.gpu_hours,
            "price": stage.price,
            "pools": [
                {
                    "pool": cost.pool,
                    "group": cost.place.group,
                    "accelerator": cost.place.kind.name,
                    "actors": cost.place.actors,
                    "gpus": cost.place.gpus,
                    **{key: getattr(cost, key) for key in ("rows", "tokens", "flops", "start", "work")},
                    **({"details": dict(cost.details)} if cost.details else {}),
                }
                for cost in stage.pools
            ],
        }
        for stage in made.stages
    ]
    paper = made.paper and {stage.stage: stage.seconds for stage in made.paper.stages}
    return {
        "name": made.load.config.name,
        "lengths": vars(made.load.lengths),
        "seconds": made.seconds,
        "gpu_hours": made.gpu_hours,
        "price": made.price,
        "stages": stages,
        "memory": {"parts": made.memory.parts, "host": dict(made.memory.host), "peak": made.memory.peak},
        "disk": {**vars(made.disk), "run": made.disk.run},
        "paper": paper,
        "problems": [str(problem) for problem in made.problems],
    }
