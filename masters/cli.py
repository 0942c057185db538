"""The command `masters`. Heavy imports are inside commands, so that `masters --help` is instant."""

import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masters import cli_compare, cli_export, cli_judging, cli_logs, cli_plan, cli_push, cli_study, cli_tiny
from masters.cluster import commands

if TYPE_CHECKING:
    from masters.config.models import TeacherConfig
    from masters.config.run import RunConfig
    from masters.data.storage import Storage
    from masters.reporting.progress import Screen

app = typer.Typer(
    help="Masking teacher, reinforcing student: distil a large vision-language model into a compact one.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(cli_tiny.app, name="tiny")
data_app = typer.Typer(help="Your data, before a run.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Recipe = Annotated[Path, typer.Argument(help="A YAML file; `masters init` writes one.", show_default=False)]
Override = Annotated[list[str] | None, typer.Option("--set", help="Override a field: --set train.lr=1e-5. Repeatable.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show what Ray, vLLM and DeepSpeed print.")]
_RAY_DATA = re.compile(r"(\n|\\n)Failed to apply UDF transform.*?(believe this to be transient\.|\Z)", re.DOTALL)
"""What Ray Data appends to a message; a KeyError shows its message quoted."""
_ONE_STAGE = "One stage of run; what it reads must be there"
_STAGES = {
    "prepare": "Read and check data: samples, images, rejects with reasons.",
    "generate": "Let masked teachers and the student answer every question.",
    "score": "Judge the answers.",
    "train": "Train the student.",
    "evaluate": "Compare baseline, teachers and trained student on held-out questions.",
    "report": "Write the page about the run.",
}


@app.command()
def init(path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("masters.yaml")) -> None:
    """Write a commented recipe for your own data and models."""
    from importlib.resources import files

    if path.exists():
        raise ValueError(f"{path}: is there already. Name another file.")
    template = (files("masters.config") / "templates" / "recipe.yaml").read_text(encoding="utf-8")
    try:
        path.write_text(template, encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path}: cannot be written: {error.strerror}. Name a file in a folder of yours.") from error
    typer.echo(f"wrote {path}\nnext     edit it   ·   masters check {path}   ·   masters run {path}")


@app.command()
def check(
    recipe: Annotated[Path | None, typer.Argument(help="The recipe to check.", show_default=False)] = None,
    override: Override = None,
    values: Annotated[
        list[Path] | None,
        typer.Option(help="Values of the Helm chart: does it fit on groups, GPUs, disks? Repeatable, as in Helm."),
    ] = None,
    namespace: commands.Namespace = "",
    release: commands.Release = "",
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of recipes, for your editor.")
    ] = False,
) -> None:
    """Check a recipe: every problem with its field, value, rule and remedy. Nothing is started."""
    from masters.cli_check import cluster_lines
    from masters.config.extending import recipe_text
    from masters.config.literals import text_problems
    from masters.config.load import load_recipe, recipe_schema
    from masters.config.problems import RecipeError
    from masters.config.train import check_trackers
    from masters.judging.estimate import judge_cost
    from masters.models.image_limits import check_limits

    if schema:
        import json

        typer.echo(json.dumps(recipe_schema(), indent=2))
        return
    if recipe is None:
        raise typer.BadParameter("name a recipe, or ask for --schema")
    config = load_recipe(recipe, override or ())
    if told := list(text_problems(recipe_text(recipe))):
        raise RecipeError(str(recipe), told)
    elsewhere = bool(values or release)
    if elsewhere:
        for line in cluster_lines(config, str(recipe), values or (), release, namespace):
            typer.echo(line)
    try:
        check_trackers(config.train)
    except ValueError as error:
        if not elsewhere:
            raise
        typer.echo(f"{recipe}: may be different on the cluster: {error}")
    check_limits(config, fetch=False)
    disks = _look_at_disks(config, str(recipe), elsewhere)
    looked = (*_look_at_sources(config, elsewhere=elsewhere), *_look_at_benchmarks(config, elsewhere=elsewhere))
    for line in (*looked, *disks, *judge_cost(config)):
        typer.echo(f"{recipe}: {line}")
    levels = sum(len(config.levels(i)) for i in range(len(config.curriculum)))
    typer.echo(f"{recipe}: fine. {levels} levels, run directory {config.storage}/{config.name}")


def _look_at_sources(config: "RunConfig", *, elsewhere: bool) -> Iterator[str]:
    """Read the first rows of every source; what could not be looked at, where the run is for a cluster `elsewhere`.

    Raises:
        ValueError: where a source cannot be read, or none of its first rows can be used.
    """
    from importlib.util import find_spec

    if not (find_spec("pyarrow") and find_spec("PIL")):
        yield "its data were not looked at: pyarrow and pillow are not installed here"
        return
    from masters.models.image_limits import known_family
    from masters.reporting.preview import check_first_rows

    splits, family = set[str](), known_family(config.student.path)
    for source in config.prepare.sources:
        try:
            splits |= check_first_rows(source, config.prepare.max_image_pixels, config.hub_token_env, family)
        except ValueError as error:
            if not elsewhere:
                raise
            yield f"cannot be read here, and may be on the cluster: {error}"
        splits |= {"validation"} if getattr(source, "validation_images", 0) else set()
    if config.train.keep == "best" and "validation" not in splits:
        yield "train.keep = best chooses by the validation split: none of the first rows is of it"


def _look_at_benchmarks(config: "RunConfig", *, elsewhere: bool) -> Iterator[str]:
    """Read the files of benchmarks. Raises ValueError where one cannot be used, unless it is for a cluster `elsewhere`."""
    from importlib.util import find_spec

    if config.evaluate.benchmarks and find_spec("pyarrow") and find_spec("PIL"):
        from masters.benchmarks.recipe import look

        yield from look(config, elsewhere=elsewhere)


def _look_at_disks(config: "RunConfig", recipe: str, elsewhere: bool) -> Iterator[str]:
    """What a checkpoint weighs, where the student is here. Raises RecipeError where it is to run here and has no room."""
    from masters.config.problems import RecipeError
    from masters.training.space import checkpoint_bytes, in_words, space_problems

    student = Path(config.student.path)
    if not student.is_dir():
        return
    size = checkpoint_bytes(student, config.train)
    problems = [] if elsewhere else list(space_problems(config, size))
    if problems:
        raise RecipeError(recipe, problems)
    yield in_words(config, size)


@app.command()
def run(recipe: Recipe, override: Override = None, verbose: Verbose = False) -> None:
    """Run all stages in order. What is done is skipped, what was interrupted continues."""
    run_recipe(recipe, override, verbose=verbose)


@app.command(rich_help_panel=_ONE_STAGE)
def mask(
    recipe: Recipe,
    override: Override = None,
    verbose: Verbose = False,
    export: Annotated[Path | None, typer.Option(help="Write an ordinary masked checkpoint to this folder.")] = None,
    ratio: Annotated[
        float | None, typer.Option(help="Mask ratio of --export: one of the teacher's.", show_default=False)
    ] = None,
    teacher: Annotated[str, typer.Option(help="Alias of the teacher of --export; the first one if not given.")] = "",
) -> None:
    """Take the thresholds of every mask ratio from the teachers' weights."""
    from masters.config.load import load_recipe

    if export is None:
        if teacher or ratio is not None:
            raise ValueError("--teacher and --ratio say what is exported. Add --export FOLDER.")
        run_recipe(recipe, override, stages=("mask",), verbose=verbose)
        return
    config = load_recipe(recipe, override or ())
    wanted = _to_export(config, export, ratio, teacher)  # before the stage, which may take long
    run_recipe(recipe, override, stages=("mask",), verbose=verbose)
    _export_masked(config, export, *wanted)


def _stage_command(name: str) -> Callable[..., None]:
    def command(recipe: Recipe, override: Override = None, verbose: Verbose = False) -> None:
        run_recipe(recipe, override, stages=(name,), verbose=verbose)

    return command


for _name, _help in _STAGES.items():
    _one = _stage_command(_name)
    app.command(_name, help=_help, rich_help_panel=_ONE_STAGE)(
        cli_export.with_export(_one) if _name == "evaluate" else _one
    )
cli_compare.register(app)
cli_plan.register(app)
cli_judging.register(app)
cli_push.register(app)
cli_study.register(app)
commands.register(app)
cli_logs.register(app)


@app.command()
def show(
    run_directory: Annotated[str, typer.Argument(metavar="RUN", help="A run directory.")],
    sample: Annotated[str, typer.Option(help="Id of a sample, for example charts/000017-0.")],
    save_images: Annotated[
        Path | None, typer.Option(help="Write the sample's images to this folder.", show_default=False)
    ] = None,
) -> None:
    """Tell the whole story of one sample: question, responses, verdicts, rewards, answers."""
    from masters.data.storage import Storage
    from masters.reporting.story import tell

    tell(Storage(run_directory), sample, save_images=save_images)


@data_app.command("show")
def data_show(
    recipe: Annotated[
        Path, typer.Argument(help="A recipe, or a YAML file with its `sources` or with one source.", show_default=False)
    ],
    rows: Annotated[
        int, typer.Option(min=1, help="Rows of each source; where files are of several splits, of each.")
    ] = 3,
    page: Annotated[
        Path | None, typer.Option(help="Write a page with thumbnails to this file, too.", show_default=False)
    ] = None,
    override: Override = None,
) -> None:
    """Show what is understood of the first rows: images, question, answer; and why rows would be rejected."""
    from masters.config.load import load_sources

    config, token = load_sources(recipe, override or ())
    from masters.reporting.preview import look_at, preview_page, tell_rows

    looks = []
    for source in config.sources:
        looks.append(look_at(source, config.max_image_pixels, rows, token))
        tell_rows(looks[-1])
    if page:
        try:
            page.write_text(preview_page(looks), encoding="utf-8")
        except OSError as error:
            raise ValueError(f"--page {page}: cannot be written: {error.strerror}. Name another file.") from error
        typer.echo(f"page     {page}")


def run_recipe(
    recipe: str | Path,
    overrides: Sequence[str] | None = None,
    *,
    stages: Sequence[str] | None = None,
    verbose: bool = False,
) -> None:
    """Run stages of a recipe, all by default, and say what came out and what to type next."""
    from masters.config.load import load_recipe

    config = load_recipe(recipe, overrides or ())
    from masters.pipeline import NAMES, run_directory, run_stages
    from masters.reporting.run_log import kept, log_of
    from masters.stages.cluster import disconnect

    log = log_of(config, run_directory(config))
    try:
        with kept(log, verbose=verbose) as screen:
            try:
                screen.line("run", f"{recipe} -> {config.storage}/{config.name}")
                run = run_stages(config, screen, stages or NAMES)
                if stages is None:
                    _say_what_came_out(run, screen)
            except BaseException as error:
                log.last_words(error, "interrupted" if isinstance(error, KeyboardInterrupt) else _in_one_line(error))
                raise
            finally:
                disconnect()
    except KeyboardInterrupt:
        again = _command_line(recipe, overrides or (), stages)
        typer.echo(f"\ninterrupted; what is finished is kept. Continue: {again}", err=True)
        raise typer.Exit(130) from None
    except ValueError:
        raise
    except Exception as error:
        if verbose:
            raise
        # Whatever a library raises: the line that matters, then the end of the log.
        typer.echo(f"error    {_in_one_line(error)}\n\n{log.tail()}\n(the end of {log.place})", err=True)
        raise typer.Exit(1) from None


def _command_line(recipe: str | Path, overrides: Sequence[str], stages: Sequence[str] | None) -> str:
    """What was typed to run these stages, for a shell."""
    options = [word for override in overrides for word in ("--set", override)]
    return shlex.join(["masters", *(stages or ("run",)), str(recipe), *options])


def _say_what_came_out(run: "Storage", screen: "Screen") -> None:
    from masters.data.samples import read_samples
    from masters.data.students import read_chosen
    from masters.reporting.benchmarks import read_results, results_table
    from masters.reporting.ladder import ladder_table, read_ladder

    screen.table(ladder_table(read_ladder(run)))
    if results := read_results(run):
        screen.table(results_table(results))
    sample = read_samples(run, "train", 0, 1)[0]["sample_id"]
    if chosen := read_chosen(run):
        screen.text(f"student  {run.address(chosen['folder'])}")
    screen.text(f"report   {run.uri}/report.html")
    screen.text(
        f"next     masters show {run.uri} --sample {sample}   ·   masters init my.yaml: your own data and models"
    )


def _to_export(config: "RunConfig", target: Path, ratio: float | None, alias: str) -> "tuple[TeacherConfig, str]":
    """The teacher and the ratio that `mask --export` asks for. Raises ValueError where something stands against it."""
    from decimal import Decimal

    from masters.algo.schedule import ratio_key

    teachers = {teacher.alias: teacher for teacher in config.curriculum}
    teacher = teachers.get(alias or config.curriculum[0].alias)
    if teacher is None:
        raise ValueError(f"--teacher {alias}: no such teacher. Teachers: {', '.join(teachers)}.")
    ratios = teacher.ratio_keys
    if ratio is None:
        raise ValueError(f"--ratio: is required with --export. Ratios of {teacher.alias}: {', '.join(ratios)}.")
    key = ratio_key(Decimal(str(ratio)))
    if key not in ratios:
        raise ValueError(
            f"--ratio {ratio:g}: {teacher.alias}'s thresholds were made for {', '.join(ratios)}. Use one of these."
        )
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ValueError(f"--export {target}: is there already, and is no empty folder. Name another folder.")
    return teacher, key


def _export_masked(config: "RunConfig", target: Path, teacher: "TeacherConfig", ratio: str) -> None:
    from masters.models.folder import resolve
    from masters.models.thresholds import ThresholdsFile, export_masked
    from masters.pipeline import run_directory
    from masters.stages.mask import thresholds_name

    file = ThresholdsFile.from_json(run_directory(config).read_json(thresholds_name(teacher.alias)))
    export_masked(resolve(teacher.path, config.hub_token_env), file, ratio, target)
    typer.echo(f"export   {teacher.alias} at ratio {ratio} -> {target}")


def main() -> None:
    """Run the command; a user's mistake is one message, not a stack trace."""
    guarded(app)


def guarded(function: Callable[[], object]) -> None:
    """Call a function; end the process with status 1 and the line that matters if it fails."""
    try:
        function()
    except ValueError as error:
        told = getattr(error, "cause", error)  # Ray wraps a ValueError of a task in a trace
        typer.echo(f"error    {_without_ray_data(str(told))}", err=True)
        sys.exit(1)
    except Exception as error:  # noqa: BLE001  the last stop: the log has the trace, people get the line that matters
        typer.echo(f"error    {_in_one_line(error)}", err=True)
        sys.exit(1)


def _in_one_line(error: BaseException) -> str:
    """The last line of what a library raised: behind a trace of another process stands what went wrong there."""
    lines = [line.strip() for line in _without_ray_data(str(error)).splitlines() if line.strip()]
    if lines and hasattr(error, "cause"):  # of a Ray task: the trace names the kind of error itself
        return lines[-1]
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__


def _without_ray_data(text: str) -> str:
    """An error without what Ray Data adds to it: an exception of its own around the one that matters, and its settings."""
    text = _RAY_DATA.sub("", text)
    told, _, wrapper = text.rpartition("\n\nThe above exception was the direct cause of the following exception:\n")
    return told if told and "UserCodeException: " in wrapper else text
