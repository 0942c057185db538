"""Which tables say what a response earned, from the sizes of the steps and the names of the files."""

import json

import pytest

from masters.data.metrics import METRICS, REWARDS_FOLDER, reward_files
from masters.data.storage import Storage

SIZES = (4, 4, 2) * 2  # 10 samples, two teachers; a level ends in a short step
ENDS = (2, 4, 6)


@pytest.fixture
def run(tmp_path):
    run = Storage(str(tmp_path))
    run.write(METRICS, "".join(json.dumps({"step": i, "groups": size}) + "\n" for i, size in enumerate(SIZES)).encode())
    for end in ENDS:
        for rank in (0, 1):
            run.write(f"{REWARDS_FOLDER}/{end:08d}-{rank:04d}.parquet", b"")
    return run


@pytest.mark.parametrize(
    ("positions", "ends"),
    [
        ([0], (2, 4)),  # steps 0 and 3
        ([7], (2, 6)),  # steps 1 and 4
        ([8], (4, 6)),  # steps 2 and 5
        ([9, 0], (2, 4, 6)),
        ([], ()),
    ],
)
def test_tables_of_a_position_under_every_teacher(run, positions, ends):
    names = [f"{REWARDS_FOLDER}/{end:08d}-{rank:04d}.parquet" for end in ends for rank in (0, 1)]
    assert reward_files(run, positions, 10) == names


def test_steps_that_were_not_stored_have_none(run):
    for rank in (0, 1):
        run.delete(f"{REWARDS_FOLDER}/{6:08d}-{rank:04d}.parquet")
    assert [name[-18:-13] for name in reward_files(run, [8], 10)] == ["00004"] * 2


def test_without_rewards_nothing_is_read(tmp_path):
    assert reward_files(Storage(str(tmp_path)), [0], 10) == []
