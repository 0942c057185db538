"""Who uses the engine of an actor, when several calls of the actor run at once."""

import bisect
import itertools
import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

Ticket = tuple[int, int]
"""A place, and a number that no other ticket has."""


class Turns:
    """Calls that are there take their turns by their places, lower ones first: one at a time, or together by the same key.

    Two calls that come at the same moment may come in the wrong order. A call that Ray makes twice has the same place twice.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[Ticket] = []
        self._tickets = itertools.count()
        self._inside = 0
        self._key: Hashable = None

    def come(self, place: int) -> Ticket:
        """Wait for a turn from now on; whoever does takes it or leaves."""
        with self._changed:
            ticket = (place, next(self._tickets))
            bisect.insort(self._waiting, ticket)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Give a turn up that was not taken."""
        with self._changed:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                self._changed.notify_all()

    @contextmanager
    def taken(self, ticket: Ticket, key: Hashable = None) -> Iterator[None]:
        """Wait for the turn, then hold it for the block: alone, or beside others with the same key where there is one."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting[0] == ticket and self._may_enter(key))
            self._waiting.pop(0)
            self._inside, self._key = self._inside + 1, key
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def _may_enter(self, key: Hashable) -> bool:
        return self._inside == 0 or (key is not None and key == self._key)
