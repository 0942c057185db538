"""The commands that speak to a cluster. A laptop runs them without torch, vLLM or pyarrow."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masters.cluster.access import Target

if TYPE_CHECKING:
    from masters.cluster.access import Access

_PANEL = "On a cluster"
Address = Annotated[str, typer.Option(help="Of the cluster's dashboard: http://HOST:8265.", show_default=False)]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Of the Helm release.", show_default=False)]
Release = Annotated[str, typer.Option(help="Helm release; reached through kubectl's context.", show_default=False)]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show what Ray and vLLM log, too.")]
Job = Annotated[str, typer.Argument(metavar="[JOB]", help="Id of a job, or name of a run; the latest if left out.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (submit, status, logs, stop):
        app.command(rich_help_panel=_PANEL)(command)


def submit(
    recipe: Annotated[Path, typer.Argument(help="The recipe; nothing else is uploaded.", show_default=False)],
    override: Annotated[list[str] | None, typer.Option("--set", help="Override a field. Repeatable.")] = None,
    stage: Annotated[str | None, typer.Option(help="One stage instead of the whole pipeline.")] = None,
    wait: Annotated[bool, typer.Option(help="Show progress until the job ends.")] = True,
    address: Address = "",
    namespace: Namespace = "",
    release: Release = "",
    verbose: Verbose = False,
    manifest: Annotated[
        bool,
        typer.Option("--manifest", help="Print a RayJob instead, for kubectl apply; from the chart, by helm template."),
    ] = False,
    values: Annotated[list[Path] | None, typer.Option(help="Of --manifest: values of the chart. Repeatable.")] = None,
) -> None:
    """Run a recipe as a job of a cluster. Ctrl-C leaves the job running."""
    from masters.cluster import submit as jobs
    from masters.config.extending import recipe_text
    from masters.config.load import read_recipe, validate
    from masters.config.portable import local_paths, storage_problems
    from masters.config.problems import RecipeError
    from masters.reporting.progress import Screen

    overrides = override or []
    data = read_recipe(recipe, overrides)
    config = validate(data, str(recipe))
    jobs.entrypoint(recipe.name, overrides, stage)
    problems = list(storage_problems(data))
    if problems:
        raise RecipeError(str(recipe), problems)
    if manifest:
        from masters.cluster import rayjob

        cluster = rayjob.render_cluster(release or "masters", namespace, values or ())
        command = jobs.entrypoint(rayjob.recipe_place(config.name), overrides, stage)
        text = recipe_text(recipe)
        typer.echo(
            rayjob.to_yaml(rayjob.manifests(cluster, text, config.name, command, rayjob.Limits(), stage, namespace)),
            nl=False,
        )
        return
    screen = Screen()
    for line in local_paths(data):
        screen.line("note", line)
    with _reach(address, namespace, release, screen) as (access, options):
        job, size = jobs.submit(access, recipe, config.name, overrides, stage)
        screen.text(f"uploaded {size / 1000:.1f} KB   job {job}\ndashboard {jobs.dashboard(access, job)}")
        if not wait:
            screen.text(jobs.again(job, options))
            return
        _follow(access, job, options, verbose)


def status(
    job: Job = "",
    every: Annotated[bool, typer.Option("--all", help="List the jobs of the cluster.")] = False,
    price: Annotated[
        list[str] | None,
        typer.Option(help="GROUP=DOLLARS_PER_HOUR of a node; shows the cost so far. Repeatable."),
    ] = None,
    address: Address = "",
    namespace: Namespace = "",
    release: Release = "",
) -> None:
    """What a job does: its stages as they last said it, and the cluster's nodes by group."""
    from masters.cluster import submit as jobs
    from masters.cluster.nodes import parse_prices
    from masters.reporting.progress import Screen

    screen, prices = Screen(), parse_prices(price or ())
    with _reach(address, namespace, release, screen) as (access, options):
        if every:
            for found in jobs.jobs_of(access):
                screen.text(jobs.job_line(found))
            return
        found = jobs.find_job(access, job)
        jobs.show_status(access, found, screen, prices)
        screen.text(
            f"next     masters logs {found.submission_id} -f{options} · masters stop {found.submission_id}{options}"
        )


def logs(
    job: Job = "",
    go_on: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    address: Address = "",
    namespace: Namespace = "",
    release: Release = "",
    verbose: Verbose = False,
) -> None:
    """What a job printed."""
    from masters.cluster import submit as jobs

    with _reach(address, namespace, release) as (access, options):
        found = jobs.find_job(access, job).submission_id
        if go_on:
            _follow(access, found, options, verbose)
            return
        for line in access.client.get_job_logs(found).splitlines():
            _show(line, verbose)


def stop(
    job: Annotated[str, typer.Argument(help="Id of a job, or name of a run.", show_default=False)],
    address: Address = "",
    namespace: Namespace = "",
    release: Release = "",
) -> None:
    """End a job. What it finished is kept: the same recipe, submitted again, goes on from there."""
    from masters.cluster import submit as jobs

    with _reach(address, namespace, release) as (access, options):
        found = jobs.find_job(access, job)
        typer.echo(f"{found.submission_id}  {jobs.stop(access, found.submission_id)}")
        typer.echo(f"What is finished is kept. Continue: masters submit RECIPE{options}")


@contextmanager
def _reach(address: str, namespace: str, release: str, screen: object = None) -> Iterator["tuple[Access, str]"]:
    """The cluster, and the options that name it; with a screen also said."""
    from masters.cluster import access as door
    from masters.cluster.submit import version_line

    if address and (namespace or release):
        raise ValueError("--address and --release name a cluster twice. Give one of them.")
    target = Target(address, namespace, release)
    with door.reach(target) as access:
        if screen is not None:
            typer.echo(f"cluster  {access.name} (ray {access.versions[1]}, reachable)")
        words = version_line(access)
        if words:
            typer.echo(f"note     {words}", err=True)
        yield access, target.options


def _follow(access: "Access", job: str, options: str, verbose: bool) -> None:
    """Show a job to its end; the exit status is the job's."""
    from masters.cluster import submit as jobs

    try:
        ended = jobs.follow(access, job, lambda line: _show(line, verbose))
    except KeyboardInterrupt:
        typer.echo(f"\ndetached; the job goes on.  {jobs.again(job, options)}")
        raise typer.Exit(130) from None
    except ConnectionError as error:
        raise ValueError(f"{error}; nothing was done to it. {jobs.again(job, options)}") from None
    if ended == "SUCCEEDED":
        typer.echo(f"{job}  SUCCEEDED")
        return
    if not verbose:
        typer.echo("\n".join(jobs.last_lines(access, job)), err=True)
    message = (access.client.get_job_info(job).message or "").splitlines()
    typer.echo(f"error    {job} {ended}{': ' + message[0] if message else ''}", err=True)
    raise typer.Exit(1)


def _show(line: str, verbose: bool) -> None:
    from masters.cluster.submit import of_masters, plain

    if verbose or of_masters(line):
        typer.echo(plain(line))
