"""Render the manifests beside this file: `python k8s/jobs/render.py`, after `helm dependency build k8s/chart`.

They are what `masters submit --manifest` prints for the recipe that `masters init` writes, on the chart's own values: one RayJob
for the pipeline and one for each stage. Render your own from your recipe and values.
"""

from pathlib import Path

from masters.cluster.rayjob import Limits, manifests, recipe_place, render_cluster, to_yaml
from masters.cluster.submit import STAGES, entrypoint
from masters.config.load import load_recipe

HERE = Path(__file__).parent
RECIPE = HERE.parents[1] / "masters" / "config" / "templates" / "recipe.yaml"
RUN, RELEASE, NAMESPACE = "my-run", "masters", "masters"
OVERRIDES = (f"name={RUN}", "storage=/runs")


def rendered(chart: Path | None = None) -> dict[str, str]:
    """File name -> manifest."""
    config = load_recipe(RECIPE, OVERRIDES)
    directory, text = f"{config.storage}/{config.name}", RECIPE.read_text(encoding="utf-8")
    cluster = render_cluster(RELEASE, NAMESPACE, chart=chart)
    found = {}
    for stage in (None, *STAGES):
        command = entrypoint(recipe_place(RUN), OVERRIDES, stage)
        objects = manifests(cluster, text, RUN, command, Limits(), stage, NAMESPACE, directory)
        found[f"{stage or 'pipeline'}.yaml"] = to_yaml(objects)
    return found


if __name__ == "__main__":
    for name, text in rendered().items():
        (HERE / name).write_text(text, encoding="utf-8")
        print(f"k8s/jobs/{name}")
