"""python -m ray_jobs.prepare RECIPE [field=value ...]: the stage `prepare`, on the cluster that the job runs on."""

import sys

from masters.cli import guarded, run_recipe

if __name__ == "__main__":
    guarded(lambda: run_recipe(sys.argv[1], sys.argv[2:], stages=("prepare",)))
