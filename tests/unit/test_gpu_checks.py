"""perf/gpu.py runs here with small sizes and with nothing but torch and transformers; and it finds what is planted."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from masters.algo import gradients, masking, sweep
from masters.models import attention, vision
from masters.models.thresholds import ThresholdsFile
from perf import gpu
from perf.gpu_checks import masks, objective, packing, step
from perf.gpu_checks.lines import NO_VERDICT, RIGHT, WRONG, check, table, timing

JSD = gradients._FORMS["jsd"]
SCRIPT = Path(__file__).parents[2] / "perf" / "gpu.py"
ABSENT = ("pyarrow", "pydantic", "ray", "vllm", "deepspeed", "PIL", "torchvision", "accelerate", "datasets", "triton")


@pytest.mark.engine
def test_the_whole_table_without_what_a_bare_machine_lacks(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({ABSENT}))\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    header, _, _, *lines, end = result.stdout.splitlines()
    assert header.startswith("CPU")
    assert end == "all right"
    for start in (
        "objective, jsd",
        "ranking",
        "masks",
        "packed rows, bf16",
        "image tower",
        "step of",
        "masking a matrix",
    ):
        assert any(line.startswith(start) for line in lines), start


def slope_too_small(log_p, log_q, rows, w):
    phi = JSD(log_p, log_q, rows, w)
    log_q.mul_(0.999)
    return phi


def rounded(product):
    return lambda *given: product(*given).bfloat16().float()


def one_branch(plan_of):
    """Answers see those before them."""
    return lambda rows: plan_of([(prefix, [sum(lengths)] if lengths else []) for prefix, lengths in rows])


def running_on(packed):
    def with_positions(rows):
        found = packed(rows)
        return replace(found, position_ids=torch.arange(found.input_ids.shape[1]).expand(3, 1, -1))

    return with_positions


def one_rank_up(select):
    return lambda counts, ranks: select(counts, [rank + 1 for rank in ranks])


def first(lines):
    return next(iter(lines))


def jsd(dtype):
    models, responses = objective.drawn(0.1, objective.LENGTHS, objective.GROUPS, objective.ACCURACY)
    return objective.compared(dtype, objective.Objective(1.0, 0.1, "exact", False, objective.IDS), models, responses)


FAULTS = {
    "a slope a thousandth off": (
        lambda patch: patch.setitem(gradients._FORMS, "jsd", slope_too_small),
        lambda: jsd(torch.float32),
    ),
    "logits of bf16 inputs rounded": (
        lambda patch: patch.setattr(sweep, "logits", rounded(sweep.logits)),
        lambda: jsd(torch.bfloat16),
    ),
    "the same, seen by the ranking": (
        lambda patch: patch.setattr(sweep, "logits", rounded(sweep.logits)),
        objective.ranked,
    ),
    "a rank too high": (
        lambda patch: patch.setattr(masking, "_select", one_rank_up(masking._select)),
        lambda: masks.compared(torch.float32, 4),
    ),
    "another checkpoint is not told apart": (
        lambda patch: patch.setattr(ThresholdsFile, "check_count", lambda *_: None),
        masks.through_a_file,
    ),
    "answers see each other": (
        lambda patch: patch.setattr("masters.models.packing.plan_of", one_branch(attention.plan_of)),
        lambda: first(packing.compared()),
    ),
    "the same, seen in bf16": (
        lambda patch: patch.setattr("masters.models.packing.plan_of", one_branch(attention.plan_of)),
        lambda: list(packing.compared())[1],
    ),
    "positions do not restart": (
        lambda patch: patch.setattr(packing, "packed", running_on(packing.packed)),
        lambda: first(packing.compared()),
    ),
    "windows of the tower are not kept apart": (
        lambda patch: patch.setattr(vision, "pairwise", lambda borders: [(borders[0], borders[-1])]),
        lambda: first(packing.tower()),
    ),
    "in a step, answers see each other": (
        lambda patch: patch.setattr("masters.models.packing.plan_of", one_branch(attention.plan_of)),
        lambda: first(step.run()),
    ),
}


@pytest.mark.skipif(torch.cuda.is_available(), reason="the faults are planted in what a CPU runs")
@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_planted_is_found(fault, monkeypatch):
    plant, look = FAULTS[fault]
    torch.manual_seed(0)
    plant(monkeypatch)
    line = look()
    assert line.verdict == WRONG, line


@pytest.mark.parametrize(
    ("found", "verdict"),
    [({"a": (1, 1), "b": (0, 0)}, RIGHT), ({"a": (1, 1), "b": (2, 1)}, WRONG), ({"a": (math.nan, 1)}, WRONG)],
)
def test_a_line_is_right_where_nothing_is_above_its_bound(found, verdict):
    assert check("name", "other", **found).verdict == verdict


def test_times_come_last_and_have_no_verdict():
    written = table([timing("slow", "rival", "2 times " * 20), check("sum", "float64", error=(0.5, 1))]).splitlines()
    assert written[0].split() == ["check", "compared", "with", "measured", "bound", "verdict"]
    assert written[2].split() == ["sum", "float64", "error", "0.5", "1", RIGHT]
    assert written[3].startswith("slow")
    assert timing("slow", "rival", "2").verdict == NO_VERDICT


@pytest.mark.parametrize(("part", "seconds", "why"), [("absent", 60, "ModuleNotFoundError"), ("packing", 0, "in time")])
def test_a_part_that_does_not_end_is_a_wrong_line(part, seconds, why, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "PARTS", (part,))
    monkeypatch.setattr(gpu, "MINUTES", seconds / 60)
    assert gpu.main([]) == 1
    assert why in capsys.readouterr().out


def test_an_unknown_part_is_refused():
    with pytest.raises(SystemExit, match="no such part; there are objective, masks"):
        gpu.main(["mask"])
