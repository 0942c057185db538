"""What `masters check` says of a cluster, from its release or values: places, GPU memory, disks, volumes, images."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from masters.config.run import RunConfig


def cluster_lines(
    config: "RunConfig", recipe: str, values: Sequence[Path], release: str, namespace: str
) -> Iterator[str]:
    """Lines about a recipe that fits. What is not sure, since data were not looked at, is left to `masters plan`.

    Args:
        config: the recipe.
        recipe: names it.
        values: files of the chart's values; where there are none, the release is asked.
        release: of Helm.
        namespace: of the release.

    Raises:
        RecipeError: with all that does not fit, or does not go together.
        ValueError: where the release cannot be read.
    """
    from masters.cluster import release as installed
    from masters.cluster.kuberay import impatience
    from masters.config.placement import groups_of
    from masters.config.problems import RecipeError
    from masters.models.sizes import known_sizes
    from masters.planning.lengths import least
    from masters.planning.plan import fit_problems
    from masters.planning.products import accelerator_of
    from masters.planning.volumes import sizes_of_volumes
    from masters.planning.workload import Workload

    found = installed.find(release, namespace, values)
    groups = groups_of(found.values, found.shown)
    sizes, unknown = known_sizes(config)
    load = Workload(config, sizes, least(), groups, sure=True)
    problems = [*installed.problems(config, found), *fit_problems(load, sizes_of_volumes(found.values))]
    if problems:
        raise RecipeError(recipe, problems)
    yield f"{found.shown}: every stage fits on its groups: {', '.join(group.name for group in groups)}"
    if not found.files and (note := impatience(found.values, namespace)):
        yield f"{found.shown}: {note}"
    for line in installed.lines_of_paths(config, found):
        yield f"{recipe}: {line}"
    vague = [group.name for group in groups if group.gpus and accelerator_of(group) is None]
    if vague:
        yield (
            f"{found.shown}: nothing names the GPUs of {', '.join(vague)}, so models were not compared with their memory; "
            "set acceleratorType"
        )
    if unknown:
        yield f"{recipe}: not compared with GPUs and disks, since their sizes are not known here: {', '.join(unknown)}"
