"""Where an engine's seconds go."""

import pytest

from masters.stages import meter


class Engine:
    def used(self):
        return 30, 1.5


@pytest.fixture
def clock(monkeypatch):
    """Seconds that the test sets."""
    now = [0.0]
    monkeypatch.setattr(meter.time, "monotonic", lambda: now[0])
    return now


def test_every_second_since_the_first_shard_is_of_one_kind(clock):
    metered = meter.Meter()
    clock[0] = 100.0  # the engine starts: of no kind
    metered.begin()
    clock[0] += 5
    first = metered.leave(Engine())
    clock[0] += 2
    with metered.switching():
        clock[0] += 3
    clock[0] += 1
    metered.begin()
    clock[0] += 7
    second = metered.leave(Engine())
    kinds = [tuple(found[f"{name}_seconds"] for name in meter.SECONDS) for found in (first, second)]
    assert kinds == [(5, 0, 0), (7, 3, 3)]
    assert [found["switches"] for found in (first, second)] == [0, 1]
    use = meter.pool_use([found | {"rejected": number} for number, found in enumerate((first, second))])
    assert use == {
        "engines": 1, "shards": 2, "rejected": 1, "tokens": 60, "busy_seconds": 12, "waiting_seconds": 3,
        "switching_seconds": 3, "switches": 1, "occupancy": round(3 / 18, 4), "tokens_per_second": 3.3,
    }  # fmt: skip
    assert "busy 12 s, waited 3 s, switched masks 1 times in 3 s" in meter.use_in_words(use)


def test_without_an_engine_nothing_is_used():
    found = meter.Meter().leave(None)
    assert (found["tokens"], found["busy_seconds"]) == (0, 0)


def test_while_another_engine_starts_nothing_counts(clock):
    metered = meter.Meter()
    metered.begin()
    clock[0] += 4
    metered.leave(Engine())
    clock[0] += 1
    metered.rest()
    clock[0] += 50
    metered.begin()
    clock[0] += 2
    found = metered.leave(Engine())
    assert (found["busy_seconds"], found["waiting_seconds"]) == (2, 1)
