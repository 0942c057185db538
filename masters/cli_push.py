"""The command `masters push`: the student of a finished run, with its card, to the hub or into a folder."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from masters.config.run import RunConfig
    from masters.data.storage import Storage
    from masters.reporting.card import Student


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(push)


def push(
    recipe: Annotated[Path, typer.Argument(help="The recipe of a finished run.", show_default=False)],
    name: Annotated[str, typer.Argument(metavar="[OWNER/NAME]", help="On the hub.", show_default=False)] = "",
    private: Annotated[bool, typer.Option("--private/--public", help="Who can read a repository that is made.")] = True,
    level: Annotated[
        str, typer.Option(help="The student of this level instead of the run's.", show_default=False)
    ] = "",
    revision: Annotated[str, typer.Option(help="A branch instead of the default one.", show_default=False)] = "",
    to: Annotated[
        Path | None, typer.Option(help="Write what would be uploaded into this folder instead.", show_default=False)
    ] = None,
    without_scores: Annotated[bool, typer.Option("--without-scores", help="Also if it was not evaluated.")] = False,
    override: Annotated[list[str] | None, typer.Option("--set", help="Override a field. Repeatable.")] = None,
) -> None:
    """Upload the student of a finished run to the hub, with a model card. The token is read from hub_token_env's variable."""
    from masters.config.load import load_recipe

    config = load_recipe(recipe, override or ())
    _check_target(name, to, level=level, revision=revision)
    token = os.environ.get(config.hub_token_env) or ""
    if to is None and not token:
        raise ValueError(
            f"{config.hub_token_env}: is not set, and the hub wants a token with the right to write. Set it, or name another "
            "variable in hub_token_env."
        )
    from masters.pipeline import run_directory
    from masters.reporting import card

    run = run_directory(config)
    theirs = card.recorded(run)
    student = card.the_student(theirs, run, level)
    scores = card.is_evaluated(run)
    if not scores and not without_scores:
        raise ValueError(
            f"{run.uri}: its student was not evaluated, so nobody could say how good it is. Run `masters evaluate {recipe}`, "
            "or add --without-scores."
        )
    text = card.build_card(theirs, run, student, name=name, scores=scores)
    for line in _told(theirs, run, student, scores):
        typer.echo(line)
    if to is not None:
        _write(run, student, to, text)
        typer.echo(f"wrote    {to}")
        return
    from masters.models.push import Destination
    from masters.models.push import push as upload

    with _gathered(run, student, text, theirs) as folder:
        address = upload(folder, Destination(name, private, revision, config.hub_token_env), token, card.TAG)
    typer.echo(f"pushed   {address}")


def _check_target(name: str, to: Path | None, *, level: str, revision: str) -> None:
    if (to is None) == (not name):
        raise ValueError("Name one place: OWNER/NAME on the hub, or --to FOLDER.")
    if name and (name.count("/") != 1 or not all(name.split("/"))):
        raise ValueError(f"{name}: is no name for a model on the hub. Write OWNER/NAME.")
    if to is not None and revision:
        raise ValueError("--revision is a branch on the hub. Leave it out with --to.")
    if to is not None and to.exists() and not (to.is_dir() and not any(to.iterdir())):
        raise ValueError(f"--to {to}: is there already, and is no empty folder. Name another folder.")


def _told(config: "RunConfig", run: "Storage", student: "Student", scores: bool) -> Iterator[str]:
    """What is going to be uploaded: which student, how many files and GB, scores, the licence."""
    from masters.models.exported import CARD
    from masters.reporting.card import inherited

    sizes = {name: size for name, size in run.sizes(student.folder).items() if not name.endswith(f"/{CARD}")}
    licence = inherited(config, run, student)
    yield f"student  {run.address(student.folder)}, trained to {student.level}"
    yield f"files    {len(sizes) + 1}, {sum(sizes.values()) / 1e9:,.3f} GB, {CARD} with{'' if scores else 'out'} scores"
    if licence is None:
        yield "licence  not known: neither the base's card nor a licence file was found; the card says so"
    else:
        warning = "" if licence.permissive else ": not a permissive one, read it before you share"
        yield f"licence  {licence}, as {licence.source} says{warning}"


def _write(run: "Storage", student: "Student", target: Path, card: str) -> None:
    from masters.models.exported import CARD

    try:
        run.download(student.folder, target)
        (target / CARD).write_text(card, encoding="utf-8")
    except OSError as error:
        raise ValueError(
            f"--to {target}: cannot be written: {error.strerror or error}. Name a folder of yours."
        ) from error


@contextmanager
def _gathered(run: "Storage", student: "Student", card: str, config: "RunConfig") -> Iterator[Path]:
    """The folder to upload, on this machine: linked to the run's files, or downloaded to scratch."""
    from masters.models.exported import CARD
    from masters.training.space import scratch_folder

    scratch = scratch_folder(config.train) if run.local_path is None else None
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="masters-push-", dir=scratch) as local:
        folder = Path(local)
        if run.local_path is None:
            run.download(student.folder, folder)
        else:
            for file in (Path(run.local_path) / student.folder).iterdir():
                if file.name != CARD:
                    (folder / file.name).symlink_to(file.resolve())
        (folder / CARD).write_text(card, encoding="utf-8")
        yield folder
