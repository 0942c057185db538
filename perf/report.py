"""Seconds and memory of `masters report` and `masters show` on a run of 1.5 million samples, and of counting what it holds.

    python perf/report.py [SAMPLES]

Beside them: counting by reading rows, as summaries did before tables carried their counts. Some 4.5 GB below the temporary
folder are deleted at the end.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from masters.data.shards import Shard, count
from masters.data.storage import Storage
from masters.data.tables import counted, counts_in
from masters.stages.generate import author_shards, teacher_shards

sys.path.insert(0, str(Path(__file__).parents[1]))
from perf.synthetic_run import make_run

PROMISED_SECONDS, PROMISED_GIB = 120, 2.0
MASTERS = Path(sys.executable).with_name("masters")


def command(*arguments: object) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and the peak of memory in MiB of a command in a process of its own. Raises where it fails."""
    began, peak, ended = time.monotonic(), 0.0, 0
    child = subprocess.Popen([str(MASTERS), *map(str, arguments)], stdout=subprocess.DEVNULL)
    while not ended:
        peak = max(peak, high_water(child.pid))
        time.sleep(0.02)
        ended, status, used = os.wait4(child.pid, os.WNOHANG)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"masters {arguments[0]} ended with {child.returncode}")
    return time.monotonic() - began, used.ru_utime + used.ru_stime, peak


def high_water(pid: int) -> float:
    """Most memory of a process so far, in MiB; 0 when it is ending. (Its rusage would begin with the memory of its parent.)"""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


def by_rows(run: Storage, folder: str, shards: list[Shard]) -> dict[str, Counter[str]]:
    """What `masters.data.shards.count` gives, from rows."""
    totals: dict[str, Counter[str]] = {shard.author: Counter() for shard in shards}
    for shard in shards:
        table = counted(run.read_table(shard.file(folder)))
        totals[shard.author].update(counts_in(table.schema.metadata, table.num_rows) or {})
    return totals


def timed(compute: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came out."""
    began = time.monotonic()
    found = compute()
    return time.monotonic() - began, found


def main() -> None:
    """A line for each."""
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else 1_500_000
    with tempfile.TemporaryDirectory(prefix="masters-report-") as folder:
        seconds, made = timed(lambda: make_run(Path(folder), samples))
        files = made.run.sizes()
        print(f"{samples:,} samples, {len(files):,} files, {sum(files.values()) / 1e9:.1f} GB, made in {seconds:.0f} s")
        wall, _, peak = command("report", made.recipe)
        kept = "kept" if wall <= PROMISED_SECONDS and peak <= 1024 * PROMISED_GIB else "NOT KEPT"
        print(f"report: {wall:.1f} s, {peak:,.0f} MiB; promised {PROMISED_SECONDS} s and {PROMISED_GIB} GiB: {kept}")
        wall, _, peak = command("show", made.run.uri, "--sample", made.ids[samples // 2].as_py())
        print(f"show: {wall:.1f} s, {peak:,.0f} MiB")
        shards = [*teacher_shards(made.config, 0, samples), *author_shards(made.config, "student", samples)]
        for what in ("responses", "verdicts"):
            footers, first = timed(lambda what=what: count(made.run, what, shards))
            rows, second = timed(lambda what=what: by_rows(made.run, what, shards))
            assert first == second, what
            print(f"{what} counted: {footers:.1f} s from footers, {rows:.1f} s from rows: {rows / footers:.1f} x")


if __name__ == "__main__":
    main()
