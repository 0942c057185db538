"""Runs of a namespace, by name: jobs of an installed cluster, and RayJobs with clusters of their own."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from masters.cluster import submit as jobs
from masters.cluster.access import Access, Target, clusters_of, is_lasting, kubectl, reach, reach_cluster
from masters.cluster.nodes import waiting_lines
from masters.cluster.rayjob import DIRECTORY, PART_OF, QUEUE, RUN
from masters.reporting.progress import Screen, clock

KIND = "rayjob/"
_ENDED = ("Complete", "Failed", "ValidationFailed")
_STAGE_WIDTH = 48
_LOOK_EVERY, _STOP_SECONDS = 3.0, 120.0
_TRIES = 5


@dataclass(frozen=True)
class RayJob:
    """A RayJob of Masters, as Kubernetes gives it."""

    item: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Of the object."""
        return str(self.item["metadata"]["name"])

    @property
    def run(self) -> str:
        """Name of the run; the object's where nothing says it."""
        return str(self.item["metadata"].get("annotations", {}).get(RUN, self.name))

    @property
    def directory(self) -> str:
        """Of the run; empty where nothing says it."""
        return str(self.item["metadata"].get("annotations", {}).get(DIRECTORY, ""))

    @property
    def status(self) -> Mapping[str, Any]:
        """As the operator wrote it."""
        return self.item.get("status") or {}

    @property
    def job(self) -> str:
        """Id of the job on its cluster; empty before and between attempts."""
        return str(self.status.get("jobId") or "")

    @property
    def deployment(self) -> str:
        """What the operator does with it; empty where it has not seen it yet."""
        return str(self.status.get("jobDeploymentStatus") or "")

    @property
    def state(self) -> str:
        """The job's status and the operator's."""
        job = self.status.get("jobStatus")
        return f"{job} ({self.deployment})" if job else self.deployment or "not seen by the operator yet"

    @property
    def ended(self) -> bool:
        """Whether no further attempt comes by itself."""
        return self.deployment in (*_ENDED, "Suspended")

    @property
    def started(self) -> float:
        """Seconds since the epoch at which it was made."""
        return datetime.fromisoformat(self.item["metadata"]["creationTimestamp"]).timestamp()

    @property
    def attempts(self) -> str:
        """How many failed and succeeded, of how many."""
        failed, succeeded = self.status.get("failed") or 0, self.status.get("succeeded") or 0
        return f"{failed} failed, {succeeded} succeeded, {self.item['spec'].get('backoffLimit', 0) + 1} at most"


@dataclass(frozen=True)
class JobOfCluster:
    """A job of a cluster that answers."""

    access: Access
    job: Any


@contextmanager
def find(target: Target, name: str) -> Iterator[RayJob | JobOfCluster]:
    """A run by name, by the id of a job, or as `rayjob/NAME`; the latest one where no name is given.

    Raises:
        ValueError: where there is none, or a name means a RayJob and a job of the installed cluster alike.
    """
    if target.address or not (target.namespace or target.release):
        with reach(target) as named:
            yield JobOfCluster(named, jobs.find_job(named, name))
        return
    mine, unread = _listed(target, name)
    with ExitStack() as stack:
        access: Access | None = None
        theirs: list[Any] = []
        unreached: ValueError | None = None
        if not name.startswith(KIND):
            try:
                access = stack.enter_context(reach(target))
                theirs = jobs.find_jobs(access, name)
            except ValueError as error:
                unreached = error
        if access is not None and theirs and not (mine and _is_later(mine[0], theirs[0], name, access)):
            yield JobOfCluster(access, theirs[0])
        elif mine:
            stack.close()  # its own cluster is another one
            yield mine[0]
        else:
            raise unread or _not_found(target, name, access, unreached)


def _listed(target: Target, name: str) -> tuple[list[RayJob], ValueError | None]:
    """RayJobs that a name means, the latest first; and why they could not be read: people may see no RayJobs."""
    try:
        found = rayjobs(target)
    except ValueError as error:
        return [], error if name.startswith(KIND) else None
    wanted = name.removeprefix(KIND)
    exact = [one for one in found if wanted in (one.name, one.job)]
    return (found if not wanted else exact or [one for one in found if one.run == wanted]), None


def _is_later(mine: RayJob, theirs: Any, name: str, access: Access) -> bool:
    if name:
        raise ValueError(
            f"{name}: is a RayJob, and a job of {access.name}. Name one of them: {KIND}{mine.name}, or {theirs.submission_id}."
        )
    return mine.started * 1000 > (theirs.start_time or 0)


def _not_found(target: Target, name: str, access: Access | None, unreached: ValueError | None) -> ValueError:
    with suppress(ValueError):
        there = [KIND + one.name for one in rayjobs(target)[:5]]
        if there or unreached is None:
            theirs = [job.submission_id for job in jobs.jobs_of(access)[:5]] if access else []
            release = f"Jobs of the release: {', '.join(theirs) or 'none'}." if unreached is None else f"{unreached}"
            where = f" in namespace {target.namespace}" if target.namespace else ""
            return ValueError(
                f"{name or 'no run'}: no such run{where}. RayJobs: {', '.join(there) or 'none'}. {release} "
                f"`masters list{_namespace(target)}` shows all runs."
            )
    return unreached or ValueError(
        f"{name or 'no job'}: no such job. `masters status --all{target.options}` lists them."
    )


def rayjobs(target: Target) -> list[RayJob]:
    """The RayJobs of Masters in the namespace, the latest first. Raises ValueError."""
    items = kubectl(target, "get", "rayjobs.ray.io", "-l", "=".join(PART_OF), "-o", "json")["items"]
    return sorted(map(RayJob, items), key=lambda one: -one.started)


def read(target: Target, name: str) -> RayJob:
    """A RayJob by the name of the object. Raises ValueError."""
    return RayJob(kubectl(target, "get", "rayjobs.ray.io", name, "-o", "json"))


def cluster_of(target: Target, rayjob: RayJob) -> dict[str, Any] | None:
    """Its cluster, while that lives and the job server may answer."""
    if rayjob.deployment not in ("Running", "Complete", "Failed") or not rayjob.job:
        return None
    name = rayjob.status.get("rayClusterName")
    found = [one for one in clusters_of(target) if one["metadata"]["name"] == name]
    return found[0] if found and not found[0]["metadata"].get("deletionTimestamp") else None


def show_rayjob(target: Target, rayjob: RayJob, screen: Screen, prices: Mapping[str, float]) -> None:
    """One screen: the RayJob, its attempts, what its pods wait for, and, where its cluster answers, stages and nodes."""
    age = clock(max(0.0, time.time() - rayjob.started))
    screen.text(
        f"{KIND}{rayjob.name}  {rayjob.state}  {age}  {rayjob.run}  {rayjob.item['spec'].get('entrypoint', '')}"
    )
    screen.line("attempts", rayjob.attempts)
    why = [rayjob.status.get("reason"), *(rayjob.status.get("message") or "").splitlines()[:1]]
    if any(why) and rayjob.status.get("jobStatus") != "RUNNING":
        screen.line("message", ": ".join(filter(None, why)))
    for line in waiting_lines(_pods(target, rayjob)):
        screen.line("pending", line)
    cluster = cluster_of(target, rayjob)
    if cluster is not None:
        try:
            with reach_cluster(target, cluster) as access:
                jobs.show_work(access, rayjob.job, screen, prices)
        except (ValueError, RuntimeError) as error:  # of Ray's client where it does not know the job
            screen.line("cluster", f"{rayjob.status.get('rayClusterName')} does not answer: {error}")
    if rayjob.directory:
        screen.line("run", f"{rayjob.directory}; its logs are in {rayjob.directory}/logs")


def _pods(target: Target, rayjob: RayJob) -> list[dict[str, Any]]:
    name = rayjob.status.get("rayClusterName")
    if not name or rayjob.ended:
        return []
    found: list[dict[str, Any]] = kubectl(target, "get", "pods", "-l", f"ray.io/cluster={name}", "-o", "json")["items"]
    return found


def log_of_rayjob(target: Target, rayjob: RayJob) -> list[str] | None:
    """What the job printed, while its cluster lives; None where that is gone. Raises ValueError."""
    cluster = cluster_of(target, rayjob)
    if cluster is None:
        return None
    with reach_cluster(target, cluster) as access:
        try:
            return str(access.client.get_job_logs(rayjob.job)).splitlines()
        except RuntimeError as error:
            raise ValueError(f"{KIND}{rayjob.name}: {access.name} has no log of it yet: {error}") from None


def follow_rayjob(target: Target, name: str, show: jobs.Show, say: jobs.Show) -> RayJob:
    """Show a RayJob's lines as they come, of one attempt after the other, until no further one comes.

    Args:
        target: the namespace.
        name: of the object.
        show: takes the lines of the jobs.
        say: takes a line of ours, about what it waits for.

    Raises:
        ValueError: where it or its cluster cannot be asked, several times in a row.
    """
    seen: set[str] = set()
    said, failures = "", 0
    while True:
        try:
            rayjob = read(target, name)
            cluster = cluster_of(target, rayjob) if rayjob.job not in seen else None
            if cluster is not None:
                with (
                    suppress(RuntimeError),
                    reach_cluster(target, cluster) as access,
                ):  # where it does not know the job yet
                    jobs.follow(access, rayjob.job, show)
                    seen.add(rayjob.job)
                    continue
            elif rayjob.ended:
                return rayjob
            words = "; ".join([rayjob.state, *waiting_lines(_pods(target, rayjob))])
            failures = 0
        except ValueError as error:
            failures += 1
            if failures > _TRIES:
                raise ValueError(f"{KIND}{name}: cannot be followed any more: {error}") from None
        else:
            if rayjob.job not in seen and words != said:
                said = words
                say(f"{KIND}{name}  {words}")
        time.sleep(_LOOK_EVERY)


def stop_rayjob(target: Target, rayjob: RayJob, say: Callable[[str], object]) -> None:
    """End a RayJob's attempt and its cluster, and keep the object: it can continue. Says what became of it, and how.

    Suspending takes the cluster away without a word to the driver. So that this ends as with Ctrl-C, it is stopped, too, where
    it can be reached; not before, or KubeRay would take the job for finished.

    Raises:
        ValueError: where it has ended already, or waits in a queue of Kueue, which would start it again.
    """
    named = KIND + rayjob.name
    again = f"kubectl{_namespace(target)}"
    if rayjob.ended:
        raise ValueError(f"{named}: is {rayjob.state} already. {_forget(rayjob, again)}")
    if QUEUE in rayjob.item["metadata"].get("labels", {}):
        raise ValueError(f"{named}: is in a queue of Kueue, which would start it again. {_forget(rayjob, again)}")
    with ExitStack() as stack:
        access = None
        with suppress(ValueError):  # no head yet, or no right to read its token
            cluster = cluster_of(target, rayjob)
            access = stack.enter_context(reach_cluster(target, cluster)) if cluster is not None else None
        spec = {"suspend": True, "shutdownAfterJobFinishes": True, "deletionStrategy": None}
        patch = json.dumps({"spec": spec})
        kubectl(target, "patch", "rayjobs.ray.io", rayjob.name, "--type", "merge", "-p", patch, "-o", "json")
        if access is not None:
            with suppress(Exception):  # its cluster is going
                access.client.stop_job(rayjob.job)
    deadline = time.monotonic() + _STOP_SECONDS
    while not (now := read(target, rayjob.name)).ended and time.monotonic() < deadline:
        time.sleep(1)
    say(f"{named}  {now.state}")
    say(f"What is finished is kept{f' in {now.directory}, and its log' if now.directory else ''}; its cluster goes.")
    if now.deployment in _ENDED:
        say(_forget(now, again))
        return
    say(f"""Continue: {again} patch rayjob {now.name} --type merge -p '{{"spec": {{"suspend": false}}}}'""")
    say(f"or apply the manifest of its recipe again. Forget it: {again} delete rayjob {now.name}")


def _forget(rayjob: RayJob, again: str) -> str:
    return (
        f"What is finished is kept in the run directory. `{again} delete rayjob {rayjob.name}`, and apply the manifest of its "
        "recipe to continue."
    )


def _namespace(target: Target) -> str:
    return f" -n {target.namespace}" if target.namespace else ""


HEADINGS = ("run", "kind", "state", "stage", "age", "where")


def list_runs(target: Target, note: Callable[[str], object]) -> list[tuple[str, ...]]:
    """All runs of the namespace, the latest first: a row of texts for each, under HEADINGS.

    Args:
        target: the namespace.
        note: takes a line about a cluster that does not answer; its jobs are missing then.

    Raises:
        ValueError: where Kubernetes cannot be asked.
    """
    found: list[tuple[float, tuple[str, ...]]] = []
    there = rayjobs(target)
    for cluster in filter(is_lasting, clusters_of(target)):
        name = cluster["metadata"]["name"]
        try:
            with reach_cluster(target, cluster) as access:
                found += [_job_row(access, job) for job in jobs.jobs_of(access)]
        except ValueError as error:
            note(f"{name}: {error} Its jobs are not shown.")
    found += [(one.started, _rayjob_row(target, one)) for one in there]
    return [row for _, row in sorted(found, key=lambda pair: -pair[0])]


def _job_row(access: Access, job: Any) -> tuple[float, tuple[str, ...]]:
    started = (job.start_time or time.time() * 1000) / 1000
    stage = _stage(access, job.submission_id) if job.status.value == "RUNNING" else ""
    run = (job.metadata or {}).get("run", "")
    age = clock(max(0.0, time.time() - started))
    return started, (run, "job", str(job.status.value), stage, age, f"{job.submission_id} on {access.name}")


def _rayjob_row(target: Target, one: RayJob) -> tuple[str, ...]:
    stage = ""
    with suppress(ValueError):  # a row without it is worth showing
        cluster = cluster_of(target, one) if one.status.get("jobStatus") == "RUNNING" else None
        if cluster is not None:
            with reach_cluster(target, cluster) as access:
                stage = _stage(access, one.job)
    return one.run, "RayJob", one.state, stage, clock(max(0.0, time.time() - one.started)), KIND + one.name


def _stage(access: Access, job: str) -> str:
    """The stage that a job is at, and what it said last; empty where it said nothing."""
    last: dict[str, str] = {}
    with suppress(RuntimeError):  # there is no log yet
        last = jobs.stage_lines(access.client.get_job_logs(job).splitlines())
    return " ".join(list(last.items())[-1])[:_STAGE_WIDTH].rstrip() if last else ""


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with columns below each other."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(f"{text or '-':<{width}}" for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
