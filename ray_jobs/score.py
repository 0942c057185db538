"""python -m ray_jobs.score RECIPE [field=value ...]: the stage `score`, on the cluster that the job runs on."""

import sys

from masters.cli import guarded, run_recipe

if __name__ == "__main__":
    guarded(lambda: run_recipe(sys.argv[1], sys.argv[2:], stages=("score",)))
