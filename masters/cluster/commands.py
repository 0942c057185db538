"""The commands that speak to a cluster. A laptop runs them without torch, vLLM or pyarrow."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masters.cluster.access import Target

if TYPE_CHECKING:
    from masters.cluster import runs
    from masters.cluster.access import Access
    from masters.config.run import RunConfig

PANEL = "On a cluster"
Address = Annotated[str, typer.Option(help="Of the cluster's dashboard: http://HOST:8265.", show_default=False)]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Of the Helm release.", show_default=False)]
Release = Annotated[str, typer.Option(help="Helm release; reached through kubectl's context.", show_default=False)]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show what Ray and vLLM log, too.")]
Job = Annotated[
    str, typer.Argument(metavar="[JOB]", help="Id of a job, or name of a run or RayJob; the latest if left out.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (submit, status, stop):
        app.command(rich_help_panel=PANEL)(command)
    app.command("list", rich_help_panel=PANEL)(list_all)


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
    values: Annotated[
        list[Path] | None, typer.Option(help="Of --manifest: the release's values, else `helm get values`. Repeatable.")
    ] = None,
) -> None:
    """Run a recipe as a job of a cluster. Ctrl-C leaves the job running."""
    from masters.cluster import submit as jobs
    from masters.cluster.rayjob import recipe_place
    from masters.cluster.release import agreed
    from masters.config.extending import recipe_text
    from masters.config.literals import text_problems
    from masters.config.load import read_recipe, validate
    from masters.config.portable import local_paths, storage_problems
    from masters.config.problems import RecipeError
    from masters.reporting.progress import Screen

    overrides = override or []
    data = read_recipe(recipe, overrides)
    config = validate(data, str(recipe))
    jobs.entrypoint(recipe.name, overrides, stage)
    text = recipe_text(recipe)
    problems = [*storage_problems(data), *text_problems(text)]
    if problems:
        raise RecipeError(str(recipe), problems)
    if manifest:
        command = jobs.entrypoint(recipe_place(config.name), overrides, stage)
        with agreed(config, str(recipe), release, namespace, values or (), stage) as files:
            _print_rayjob(config, text, command, release, namespace, files, stage)
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


def _print_rayjob(
    config: "RunConfig",
    text: str,
    command: str,
    release: str,
    namespace: str,
    values: Sequence[Path],
    stage: str | None,
) -> None:
    """The manifest on standard output; on the other what its operator would do to it."""
    from masters.cluster import rayjob
    from masters.cluster.kuberay import impatience
    from masters.config.placement import read_values

    cluster = rayjob.render_cluster(release, namespace, values)
    directory = f"{config.storage}/{config.name}"
    found = rayjob.manifests(cluster, text, config.name, command, rayjob.Limits(), stage, namespace, directory)
    typer.echo(rayjob.to_yaml(found), nl=False)
    if note := impatience(read_values(values), namespace):
        typer.echo(f"note      {note}", err=True)


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
    from masters.cluster import runs
    from masters.cluster import submit as jobs
    from masters.cluster.nodes import parse_prices
    from masters.reporting.progress import Screen

    screen, prices = Screen(), parse_prices(price or ())
    if every:
        with _reach(address, namespace, release, screen) as (access, _):
            for one in jobs.jobs_of(access):
                screen.text(jobs.job_line(one))
        return
    target = _target(address, namespace, release)
    with runs.find(target, job) as found:
        if isinstance(found, runs.RayJob):
            name = f"{runs.KIND}{found.name}"
            runs.show_rayjob(target, found, screen, prices)
        else:
            name = found.job.submission_id
            _greet(found.access, screen)
            jobs.show_status(found.access, found.job, screen, prices)
    screen.text(f"next     masters logs {name} -f{target.options} · masters stop {name}{target.options}")


def list_all(namespace: Namespace = "") -> None:
    """All runs of a namespace: jobs of the installed clusters, and RayJobs."""
    from masters.cluster import runs

    rows = runs.list_runs(Target(namespace=namespace), lambda line: typer.echo(f"note     {line}", err=True))
    if not rows:
        typer.echo("no runs there. `masters submit` starts one.")
        return
    for line in runs.aligned([runs.HEADINGS, *rows]):
        typer.echo(line)


def is_place(text: str) -> bool:
    """Whether what stands for a job is a path or an address: those have a slash."""
    return "/" in text and not text.startswith("rayjob/")


def show_logs(job: str, address: str, namespace: str, release: str, *, go_on: bool, verbose: bool) -> str | None:
    """What a job printed, while its cluster is there; else the run directory, where its logs are kept. Raises ValueError."""
    from masters.cluster import runs

    target = _target(address, namespace, release)
    with runs.find(target, job) as found:
        if isinstance(found, runs.JobOfCluster):
            access, known = found.access, found.job.submission_id
            _greet(access)
            if go_on:
                _follow(access, known, target.options, verbose)
                return None
            lines = access.client.get_job_logs(known).splitlines()
        elif go_on and not found.ended:
            _follow_rayjob(target, found, verbose)
            return None
        else:
            kept = runs.log_of_rayjob(target, found)
            if kept is None:
                return _directory(found)
            lines = kept
    for line in lines:
        show_line(line, verbose)
    return None


def _follow_rayjob(target: Target, found: "runs.RayJob", verbose: bool) -> None:
    """Show a RayJob to its end, over all attempts; the exit status says whether it succeeded."""
    from masters.cluster import runs

    name, options = f"{runs.KIND}{found.name}", target.options
    try:
        ended = runs.follow_rayjob(target, found.name, lambda line: show_line(line, verbose), typer.echo)
    except KeyboardInterrupt:
        typer.echo(f"\ndetached; it goes on. Again: masters logs {name} -f{options} · masters stop {name}{options}")
        raise typer.Exit(130) from None
    typer.echo(f"{name}  {ended.state}   {ended.attempts}")
    if ended.status.get("jobStatus") != "SUCCEEDED":
        raise typer.Exit(1)


def _directory(found: "runs.RayJob") -> str:
    if found.ended and found.directory:
        return found.directory
    raise ValueError(
        f"rayjob/{found.name}: is {found.state}, and has no cluster that could say more. "
        + (f"What earlier attempts logged: masters logs {found.directory}" if found.directory else "")
    )


def stop(
    job: Annotated[str, typer.Argument(help="Id of a job, or name of a run or RayJob.", show_default=False)],
    address: Address = "",
    namespace: Namespace = "",
    release: Release = "",
) -> None:
    """End a job. What it finished is kept: the same recipe, submitted again, goes on from there."""
    from masters.cluster import runs
    from masters.cluster import submit as jobs

    target = _target(address, namespace, release)
    with runs.find(target, job) as found:
        if isinstance(found, runs.RayJob):
            runs.stop_rayjob(target, found, typer.echo)
            return
        known = found.job.submission_id
        _greet(found.access)
        typer.echo(f"{known}  {jobs.stop(found.access, known)}")
        typer.echo(f"What is finished is kept. Continue: masters submit RECIPE{target.options}")


def _target(address: str, namespace: str, release: str) -> Target:
    if address and (namespace or release):
        raise ValueError("--address and --release name a cluster twice. Give one of them.")
    return Target(address, namespace, release)


@contextmanager
def _reach(address: str, namespace: str, release: str, screen: object = None) -> Iterator["tuple[Access, str]"]:
    """The cluster, and the options that name it; with a screen also said."""
    from masters.cluster import access as door

    target = _target(address, namespace, release)
    with door.reach(target) as access:
        _greet(access, screen)
        yield access, target.options


def _greet(access: "Access", screen: object = None) -> None:
    from masters.cluster.submit import version_line

    if screen is not None:
        typer.echo(f"cluster  {access.name} (ray {access.versions[1]}, reachable)")
    words = version_line(access)
    if words:
        typer.echo(f"note     {words}", err=True)


def _follow(access: "Access", job: str, options: str, verbose: bool) -> None:
    """Show a job to its end; the exit status is the job's."""
    from masters.cluster import submit as jobs

    try:
        ended = jobs.follow(access, job, lambda line: show_line(line, verbose))
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


def show_line(line: str, verbose: bool) -> None:
    """A line of a job's log; with `verbose` also what others said in it."""
    from masters.cluster.submit import of_masters, plain

    if verbose or of_masters(line):
        typer.echo(plain(line))
