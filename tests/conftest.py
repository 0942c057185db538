"""Tiny models with random weights, made once per session, and a place for them."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models are ten times slower with more
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


@pytest.fixture(scope="session")
def make_model(tmp_path_factory):
    """make_model(size, seed, dtype) -> folder of an untrained tiny model."""
    import torch

    from masters.models.tiny import make_untrained

    torch.set_num_threads(1)
    made = {}

    def make(size: str = "student", seed: int = 0, dtype=torch.bfloat16, **options) -> Path:
        key = (size, seed, dtype, *options.items())
        if key not in made:
            made[key] = tmp_path_factory.mktemp(f"{size}-{seed}")
            make_untrained(made[key], size, seed, dtype, **options)
        return made[key]

    return make


@pytest.fixture(scope="session")
def make_family(tmp_path_factory):
    """make_family(kind, size, seed) -> folder of a tiny model of a family with random weights."""
    from masters.models.tiny_families import make as make_folder

    made = {}

    def make(kind: str, size: str = "student", seed: int = 1, **options) -> Path:
        key = (kind, size, seed, *options.items())
        if key not in made:
            made[key] = tmp_path_factory.mktemp(f"{kind}-{size}-{seed}")
            make_folder(kind, made[key], size, seed, **options)
        return made[key]

    return make


@pytest.fixture(scope="session")
def trained():
    """The trained pair that ships with the project: (student, teacher)."""
    root = Path(__file__).parents[1] / "models" / "tiny"
    return root / "student", root / "teacher"
