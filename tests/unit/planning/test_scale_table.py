"""The plan's arithmetic against a table of memory and time that was computed by hand before it (docs/plan.md has both).

The table is of the code as it was then: heads in fp32, and buffers of 14.5 numbers for each response token and word. These are
added here; what remains must agree.
"""

from dataclasses import replace

import pytest

from masters.config.train import TrainConfig
from masters.families.released import released
from masters.planning.flops import GroupShape, group_flops, seeing
from masters.planning.memory import train_memory
from masters.planning.throughputs import ACCELERATORS

BUFFERS = 14.5


NAMES = {"Q2.5": "Qwen/Qwen2.5-VL-{}-Instruct", "Q3": "Qwen/Qwen3-VL-{}-Instruct", "IV3": "OpenGVLab/InternVL3-{}-hf",
         "IV3.5": "OpenGVLab/InternVL3_5-{}-HF"}  # fmt: skip


def model(name):
    family, size = name.split()
    return released(NAMES[family].format(size)).size


WORKERS = (8, 16, 32, 64)
TABLE = {  # GB: static: as it was without / with checkpointing / a loss in pieces and checkpointing, on 8, 16, 32, 64 workers
    ("Q2.5 3B", "Q2.5 72B"): "28: 89/59/47  14: 76/45/33  7: 69/38/26  3: 65/34/22",
    ("Q2.5 7B", "Q2.5 72B"): "39: 110/73/60  20: 91/54/41  10: 81/44/31  5: 76/39/26",
    ("Q3 2B", "Q3 32B"): "14: 59/40/29  7: 53/33/22  3: 49/29/19  2: 47/28/17",
    ("Q3 4B", "Q3 32B"): "19: 76/47/36  10: 66/37/26  5: 61/32/21  2: 59/30/19",
    ("Q3 8B", "Q3 32B"): "30: 100/61/49  15: 85/46/34  8: 77/38/26  4: 73/34/22",
    ("IV3 2B", "IV3 78B"): "25: 74/54/43  12: 62/42/30  6: 56/36/24  3: 53/32/21",
    ("IV3 8B", "IV3 78B"): "39: 107/73/61  20: 87/54/41  10: 77/44/31  5: 72/39/26",
    ("IV3.5 1B", "IV3.5 38B"): "12: 51/36/26  6: 45/30/20  3: 42/27/17  2: 40/25/15",
    ("IV3.5 8B", "IV3.5 38B"): "31: 98/62/50  15: 83/46/34  8: 75/38/26  4: 71/34/22",
}
CASES = [
    (pair, workers, *(float(number) for number in cell.replace(":", "/").split("/")))
    for pair, cells in TABLE.items()
    for workers, cell in zip(WORKERS, cells.replace(": ", ":").split("  "), strict=True)
]
SHAPE = GroupShape(prompt=1500, image=1400, responses=8, length=200)


def memory(pair, workers, *, checkpointing):
    student, teacher = map(model, pair)
    train = TrainConfig(gradient_checkpointing=checkpointing, groups_per_step=64)
    return train_memory(train, student, [teacher], SHAPE, workers, 8)


@pytest.mark.parametrize(("pair", "workers", "static", "plain", "checkpointed", "chunked"), CASES)
def test_memory_of_a_worker(pair, workers, static, plain, checkpointed, chunked):
    student, teacher = (model(name).decoder for name in pair)
    heads = 4 * (teacher.head + 2 * student.head)
    buffers = BUFFERS * 4 * SHAPE.trained * student.vocabulary
    found = {kept: memory(pair, workers, checkpointing=kept) for kept in (True, False)}
    assert sum(found[True].static.values()) / 1e9 == pytest.approx(static, rel=0.05, abs=0.6)
    for kept, more, expected in (
        (True, heads, chunked),
        (True, heads + buffers, checkpointed),
        (False, heads + buffers, plain),
    ):
        learning = sum(found[kept].static.values()) + sum(found[kept].learning.values())
        assert (learning + more) / 1e9 == pytest.approx(expected, rel=0.11, abs=3.0)


@pytest.mark.parametrize("pair", TABLE)
def test_every_pair_trains_on_eight_gpus_of_80_gb(pair):
    found = memory(pair, 8, checkpointing=True)
    assert 1.1 * found.peak < 79.1 * 2**30


@pytest.mark.parametrize(
    ("pair", "of_teacher", "packed", "unpacked"),
    [(("Q2.5 7B", "Q2.5 72B"), 468, 724, 3000), (("Q3 8B", "Q3 32B"), 218, 485, 1892)],
)
def test_operations_of_a_group(pair, of_teacher, packed, unpacked):
    """TFLOP. The table lets an image through the tower once for all rows; rows that others train on repeat it."""
    student, teacher = map(model, pair)
    found, repeated = (
        group_flops(student, teacher, replace(SHAPE, packed=packs), reference=True, checkpointing=True, twice=False)
        for packs in (True, False)
    )
    assert found.teacher / 1e12 == pytest.approx(of_teacher, rel=0.04)
    assert found.total / 1e12 == pytest.approx(packed, rel=0.04)
    towers = 7 * (seeing(teacher.tower, SHAPE.image) + 5 * seeing(student.tower, SHAPE.image))
    assert (repeated.total - towers) / 1e12 == pytest.approx(unpacked, rel=0.04)
    assert repeated.total / found.total > 4


def test_a_step_that_was_measured():
    """3B from 7B on one H100: 3 groups of 8 answers, 4,587 tokens, 1.09 s, its products 0.32 of it at 726 TFLOP/s."""
    student, teacher = model("Q2.5 3B"), model("Q2.5 7B")
    shape = GroupShape(prompt=647, image=613, responses=8, length=(4587 / 3 - 647) / 8)
    found = 3 * group_flops(student, teacher, shape, reference=True, checkpointing=True, twice=False).total
    assert found == pytest.approx(0.32 * 1.09 * 726e12, rel=0.15)
    h100 = ACCELERATORS["H100"]
    assert found / (h100.tflops * 1e12 * h100.train_share) == pytest.approx(1.09, rel=0.15)
