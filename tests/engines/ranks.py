"""Starts the processes of a gang, without Ray."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def launch(ranks: int, worker: str, jobs: Sequence[Mapping[str, Any]], plan: Path) -> None:
    """Have every rank do one job after the other: imports take longest. `plan` is where the jobs are written for it to read."""
    plan.write_text(json.dumps(jobs, default=str))
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={ranks}", "--master_addr=127.0.0.1", "--master_port=0",
               "--rdzv_backend=c10d", "--rdzv_endpoint=127.0.0.1:0", str(ROOT / "tests/engines" / worker), str(plan)]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    told = [line for line in done.stderr.splitlines() if "Warning" not in line]
    assert done.returncode == 0, "\n".join(told)[-5000:]
