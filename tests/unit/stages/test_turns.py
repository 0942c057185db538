"""Who has the engine of an actor when."""

import threading
import time

import pytest

from masters.stages.turns import Turns


def visits(keys):
    """(place, when in, when out) of calls that all wait before the first may go; each stays 50 ms."""
    turns, seen, threads = Turns(), [], []
    tickets = [turns.come(place) for place in range(len(keys))]
    first = turns.come(-1)

    def visit(place, key):
        with turns.taken(tickets[place], key):
            began = time.monotonic()
            time.sleep(0.05)
            seen.append((place, began, time.monotonic()))

    with turns.taken(first):
        for place in reversed(range(len(keys))):
            threads.append(threading.Thread(target=visit, args=(place, keys[place])))
            threads[-1].start()
        time.sleep(0.02)
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    return sorted(seen, key=lambda one: one[1])


@pytest.mark.parametrize(
    ("keys", "together"),
    [
        ([None] * 4, []),
        (["a", "a", "a"], [(0, 1), (0, 2), (1, 2)]),
        (["a", "a", "b", "b"], [(0, 1), (2, 3)]),
        (["a", None, "a"], []),
        ([None, "a", "a", None], [(1, 2)]),
    ],
)  # fmt: skip
def test_in_the_order_of_places_and_together_by_key_only(keys, together):
    seen = visits(keys)
    if not together:
        assert [place for place, _, _ in seen] == list(range(len(keys)))
    spans = {place: (began, ended) for place, began, ended in seen}
    found = [
        (a, b) for a in spans for b in spans if a < b and max(spans[a][0], spans[b][0]) < min(spans[a][1], spans[b][1])
    ]
    assert sorted(found) == together


def test_a_lower_place_that_came_later_goes_first():
    turns = Turns()
    with turns.taken(turns.come(0)):
        tickets = {2: turns.come(2), 1: turns.come(1)}
    order = []

    def visit(place):
        with turns.taken(tickets[place]):
            order.append(place)

    threads = [threading.Thread(target=visit, args=(place,)) for place in (2, 1)]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    for thread in threads:
        thread.join(5)
    assert order == [1, 2]


def test_who_leaves_keeps_nobody_waiting():
    turns = Turns()
    idle, busy = turns.come(0), turns.come(1)
    thread = threading.Thread(target=lambda: turns.taken(busy).__enter__(), daemon=True)
    thread.start()
    time.sleep(0.02)
    assert thread.is_alive()
    turns.leave(idle)
    thread.join(5)
    assert not thread.is_alive()


def test_a_call_that_is_made_twice_has_two_turns():
    turns = Turns()
    once, again = turns.come(3), turns.come(3)
    with turns.taken(once):
        pass
    turns.leave(once)
    thread = threading.Thread(target=lambda: turns.taken(again).__enter__(), daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
