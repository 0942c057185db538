"""python -m ray_jobs.pipeline RECIPE [field=value ...]: all stages in order, on the cluster that the job runs on."""

import sys

from masters.cli import guarded, run_recipe

if __name__ == "__main__":
    guarded(lambda: run_recipe(sys.argv[1], sys.argv[2:]))
