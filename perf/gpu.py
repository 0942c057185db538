"""What the training core computes on a GPU, and how fast: one table. On a CPU the same with small sizes.

    python perf/gpu.py [PART ...]

For any machine with one CUDA GPU, torch, transformers and triton; no network, no Ray, no vLLM, no DeepSpeed, and no files of
models: those are random. Parts: objective, masks, packing, step; each runs in a process of its own, so that one that fails
leaves the others be. Less than six minutes together. Exit status 1 where a result is wrong or a part does not end.
"""

import json
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # where masters is, installed or not

from perf.gpu_checks import machine  # noqa: E402
from perf.gpu_checks.lines import WRONG, Line, table  # noqa: E402

PARTS = ("objective", "masks", "packing", "step")
MINUTES = 6


def main(parts: list[str]) -> int:
    """Every part in turn, then the table; the exit status."""
    if unknown := set(parts) - set(PARTS):
        raise SystemExit(f"{', '.join(sorted(unknown))}: no such part; there are {', '.join(PARTS)}")
    began, lines = time.monotonic(), []
    for part in parts or PARTS:
        lines += outcome(part, began + 60 * MINUTES - time.monotonic())
    wrong = sum(line.verdict == WRONG for line in lines)
    print(f"{machine.described()}; {time.monotonic() - began:.0f} s")
    print(table(lines))
    print(f"{wrong} wrong" if wrong else "all right")
    return 1 if wrong else 0


def outcome(part: str, seconds: float) -> list[Line]:
    """The lines of a part, and one more where it did not come to its end."""
    print(f"{part} ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        try:
            command = [sys.executable, __file__, "--lines", part]
            status = subprocess.run(command, stdout=out, stderr=errors, timeout=max(1, seconds), check=False).returncode
        except subprocess.TimeoutExpired:
            status = None
        out.seek(0)
        lines = [Line(**json.loads(written)) for written in out if written.startswith("{")]
        if status == 0:
            return lines
        errors.seek(0)
        said = errors.read().strip() or "no word"
    print(said[-3000:], file=sys.stderr)
    why = "not done in time" if status is None else f"status {status}: {said.splitlines()[-1]}"
    return [*lines, Line(part, "its end", why[:80], "", WRONG)]


def one(part: str) -> None:
    """In a process of its own: the lines of a part, as they come."""
    machine.prepare()
    for line in import_module(f"perf.gpu_checks.{part}").run():
        print(line.dumps(), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--lines"]:
        one(sys.argv[2])
    else:
        sys.exit(main(sys.argv[1:]))
