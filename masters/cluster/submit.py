"""Runs on a cluster, from a laptop: Ray's job API. Only the recipe travels; code is in the image, data in storage."""

import asyncio
import re
import shlex
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from masters.cluster.access import Access
from masters.cluster.nodes import cost_line, nodes_line, read_nodes, read_pending
from masters.config.extending import recipe_text
from masters.reporting.progress import Screen, clock

STAGES = ("prepare", "mask", "generate", "score", "train", "evaluate", "report")
"""As in masters.pipeline, which needs more than a laptop has."""

_MOST_BYTES = 1 << 20
_TAIL = 20
_RECONNECTS = 5
_STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_NOISE = re.compile(  # a process number, a time, a level, a Python warning
    r"\(.*\bpid=\d+.*\) "
    r"|\[?\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d"
    r"|(DEBUG|INFO|WARNING|ERROR) \d\d-\d\d "
    r"|.*Warning: "
    r"|Running entrypoint "
)

Show = Callable[[str], None]


def entrypoint(recipe: str, overrides: Sequence[str] = (), stage: str | None = None) -> str:
    """The command of a job: the whole pipeline, or one stage."""
    if stage is not None and stage not in STAGES:
        raise ValueError(f"--stage {stage}: no such stage. Stages: {', '.join(STAGES)}.")
    return shlex.join(["python", "-m", f"ray_jobs.{stage or 'pipeline'}", recipe, *overrides])


@contextmanager
def upload_folder(recipe: Path) -> Iterator[str]:
    """A folder with the recipe, what it extends taken in, and nothing else."""
    with tempfile.TemporaryDirectory(prefix="masters-submit-") as folder:
        (Path(folder) / recipe.name).write_text(recipe_text(recipe), encoding="utf-8")
        check_size(folder)
        yield folder


def check_size(folder: str, most: int = _MOST_BYTES) -> int:
    """Bytes in a folder. Raises ValueError, naming the biggest files, where Ray would have to carry too much."""
    sizes = {path: path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()}
    total = sum(sizes.values())
    if total > most:
        biggest = sorted(sizes, key=lambda path: -sizes[path])[:3]
        named = ", ".join(f"{path.relative_to(folder)} ({sizes[path] / 2**20:.1f} MB)" for path in biggest)
        raise ValueError(
            f"the upload has {total / 2**20:.1f} MB, {most / 2**20:g} MB is the most: a job takes a recipe, and data from "
            f"storage. Biggest: {named}."
        )
    return total


def submit(
    access: Access, recipe: Path, run: str, overrides: Sequence[str] = (), stage: str | None = None
) -> tuple[str, int]:
    """Start a job. The environment of the job has the recipe's folder and nothing else, no secret above all.

    Returns:
        The job's id, and the bytes that were uploaded.
    """
    command = entrypoint(recipe.name, overrides, stage)
    with upload_folder(recipe) as folder:
        job = access.client.submit_job(
            entrypoint=command,
            runtime_env={"working_dir": folder},
            metadata={"run": run, "stage": stage or "pipeline", "masters": "1"},
        )
        return job, check_size(folder)


def version_line(access: Access) -> str | None:
    """What to say where Ray is another one there."""
    here, there = access.versions
    if here == there:
        return None
    return (
        f"Ray is {here} here and {there} on the cluster: jobs can be submitted, but install ray=={there} if that fails"
    )


def follow(access: Access, job: str, show: Show) -> str:
    """Show the job's lines as they come, to its end; its last status. Lines are shown once, however often the line breaks.

    Raises:
        ConnectionError: after several attempts; nothing happens to the job.
    """
    lines, failures = _Lines(show), 0
    while True:
        before = lines.seen
        try:
            asyncio.run(_tail(access.client, job, lines))
            status = access.client.get_job_status(job)
        except Exception as error:  # noqa: BLE001  whatever breaks on the way there: the job does not care
            _reraise_if_final(error)
            failures = 0 if lines.seen > before else failures + 1
            if failures > _RECONNECTS:
                raise ConnectionError(f"lost sight of {job}: {type(error).__name__}") from None
            time.sleep(1 + failures)
            continue
        if status.is_terminal():
            lines.start_again()
            lines.take(access.client.get_job_logs(job))
            lines.finish()
            return status.value
        time.sleep(1)


def _reraise_if_final(error: Exception) -> None:
    from ray.exceptions import AuthenticationError

    if isinstance(error, AuthenticationError) or "does not exist" in str(error):
        raise error


async def _tail(client: Any, job: str, lines: "_Lines") -> None:
    lines.start_again()
    async for chunk in client.tail_job_logs(job):
        lines.take(chunk)


class _Lines:
    """Whole lines of a text that is sent in pieces, and from its beginning after each break of the connection."""

    def __init__(self, show: Show):
        self._show, self._rest, self._place, self.seen = show, "", 0, 0

    def start_again(self) -> None:
        """The next piece is the first one."""
        self._place = 0

    def take(self, piece: str) -> None:
        """One more piece; what was seen is not shown again."""
        start, self._place = self._place, self._place + len(piece)
        new = piece[max(0, self.seen - start) :]
        self.seen = max(self.seen, self._place)
        *whole, self._rest = (self._rest + new).split("\n")
        for line in whole:
            self._show(line)

    def finish(self) -> None:
        """Nothing comes any more."""
        if self._rest:
            self._show(self._rest)
            self._rest = ""


def plain(line: str) -> str:
    """A line without colours."""
    return _STYLE.sub("", line).rstrip()


def of_masters(line: str) -> bool:
    """Whether a line was said by Masters, as far as its form tells; what Ray and vLLM log has a time or a process number."""
    return bool(plain(line)) and not _NOISE.match(plain(line))


def last_lines(access: Access, job: str, count: int = _TAIL) -> list[str]:
    """The end of what a job printed."""
    return [plain(line) for line in access.client.get_job_logs(job).splitlines()][-count:]


def find_job(access: Access, name: str = "") -> Any:
    """A job by id, or the latest one of a run; of all jobs where no name is given. Raises ValueError."""
    found = find_jobs(access, name)
    if not found:
        jobs = jobs_of(access)
        there = ", ".join(job.submission_id for job in jobs[:5]) or "none"
        raise ValueError(
            f"{name or 'no job'}: no such job on {access.name}. Latest: {there}. `masters status` lists them."
        )
    return found[0]


def find_jobs(access: Access, name: str) -> list[Any]:
    """All jobs with this id, or of this run; all where no name is given. The latest first."""
    return [job for job in jobs_of(access) if name in ("", job.submission_id, (job.metadata or {}).get("run"))]


def jobs_of(access: Access) -> list[Any]:
    """Submitted jobs, the latest first."""
    jobs = [job for job in access.client.list_jobs() if job.submission_id]
    return sorted(jobs, key=lambda job: -(job.start_time or 0))


def job_line(job: Any) -> str:
    """Id, status, age and command of a job."""
    took = ((job.end_time or time.time() * 1000) - (job.start_time or time.time() * 1000)) / 1000
    run = (job.metadata or {}).get("run", "")
    return "  ".join(
        part for part in (job.submission_id, str(job.status.value), clock(took), run, job.entrypoint) if part
    )


def stage_lines(log: Iterable[str]) -> dict[str, str]:
    """The last thing that each stage said, in pipeline order."""
    last: dict[str, str] = {}
    for line in map(plain, log):
        name, _, rest = line.partition(" ")
        if name in STAGES and rest.strip():
            last[name] = rest.strip()
    return {stage: last[stage] for stage in STAGES if stage in last}


def show_status(access: Access, job: Any, screen: Screen, prices: Mapping[str, float]) -> None:
    """One screen: the job, what each stage said last, the nodes by group, their cost where there are prices.

    Rows are as fresh as the job's last line. A cluster's nodes are those of all its jobs.
    """
    screen.text(job_line(job))
    if job.message and job.status.value != "RUNNING":
        screen.line("message", job.message.splitlines()[0])
    show_work(access, job.submission_id, screen, prices)


def show_work(access: Access, job: str, screen: Screen, prices: Mapping[str, float]) -> None:
    """What each stage of a job said last, the nodes by group, their cost where there are prices."""
    for stage, words in stage_lines(access.client.get_job_logs(job).splitlines()).items():
        screen.line(stage, words)
    try:
        nodes = read_nodes(access)
    except Exception as error:  # noqa: BLE001  the screen is worth showing without
        screen.line("nodes", f"not known ({type(error).__name__})")
        return
    pending: dict[str, int] = {}
    with suppress(Exception):  # an autoscaler that says nothing, or none: the line is worth showing without
        pending = read_pending(access)
    screen.line("nodes", nodes_line(nodes, pending))
    if prices:
        screen.line("cost", cost_line(nodes, prices))


def again(job: str, options: str) -> str:
    """The lines that people type next."""
    return f"Again: masters status {job}{options} · masters logs {job} -f{options} · masters stop {job}{options}"


def stop(access: Access, job: str, seconds: float = 60) -> str:
    """Ask a job to end and wait for it; its last status."""
    access.client.stop_job(job)
    deadline = time.monotonic() + seconds
    while not (status := access.client.get_job_status(job)).is_terminal() and time.monotonic() < deadline:
        time.sleep(0.5)
    return status.value


def dashboard(access: Access, job: str) -> str:
    """Where people look at a job; a port-forward of ours ends with the command, so they need one of their own."""
    page = f"#/jobs/{job}"
    return f"{access.url}/{page}" if not access.forward else f"{access.forward}, then http://127.0.0.1:8265/{page}"
