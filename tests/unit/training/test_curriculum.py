import pytest

from masters.config.load import validate
from masters.config.train import TrainConfig
from masters.training.curriculum import learning_rate, steps


def recipe(curriculum, **train):
    return validate(
        {
            "name": "x",
            "student": {"path": "s"},
            "curriculum": curriculum,
            "prepare": {"sources": [{"type": "charts"}]},
            "train": train,
        }
    )


def test_one_pass_per_teacher_and_no_step_crosses_a_level():
    config = recipe([{"alias": "mid", "path": "m", "r_max": 0.1}, {"alias": "big", "path": "b"}], groups_per_step=7)
    planned = steps(config, 100)
    assert [s.number for s in planned] == list(range(len(planned)))
    for teacher, levels in ((0, 3), (1, 5)):
        mine = [s for s in planned if s.teacher == teacher]
        assert [p for s in mine for p in range(s.start, s.stop)] == list(range(100))
        assert list(dict.fromkeys(s.level for s in mine)) == list(config.levels(teacher))
        assert len({s.level for s in mine}) == levels
        assert mine[-1].ratio == "0.00"
    assert all(0 < s.stop - s.start <= 7 for s in planned)
    assert [s.teacher for s in planned] == sorted(s.teacher for s in planned)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [1.0] * 5),
        ({"warmup_steps": 4}, [0.25, 0.5, 0.75, 1.0, 1.0]),
        ({"lr_schedule": "linear"}, [1.0, 0.8, 0.6, 0.4, 0.2]),
        ({"lr_schedule": "linear", "warmup_steps": 2}, [0.5, 0.8, 0.6, 0.4, 0.2]),
    ],
)
def test_learning_rates(settings, expected):
    config = TrainConfig(lr=1.0, **settings)
    assert [learning_rate(config, i, 5) for i in range(5)] == pytest.approx(expected)


def test_decay_ends_at_five_percent():
    assert learning_rate(TrainConfig(lr=1.0, lr_schedule="linear"), 999, 1000) == 0.05
