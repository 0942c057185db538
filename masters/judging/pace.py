"""How fast an endpoint may be asked: requests and tokens per minute, spaced evenly."""

import asyncio
import time

_MINUTE = 60.0


class Pace:
    """The moment at which the next request may be sent. Tasks and threads may share it; 0 is no limit.

    Requests are spaced, not counted in windows: in no minute, wherever it begins, are there more than the limit and one.
    Tokens are not known before an answer is there: a request takes what it may use at most, and gives back what it did not.
    """

    def __init__(self, requests_per_minute: float, tokens_per_minute: float):
        self._per_request = _MINUTE / requests_per_minute if requests_per_minute else 0.0
        self._per_token = _MINUTE / tokens_per_minute if tokens_per_minute else 0.0
        self._request_at = self._tokens_at = 0.0

    async def turn(self, tokens: int) -> None:
        """Wait until a request that may use so many tokens may be sent."""
        now = time.monotonic()
        start = max(now, self._request_at, self._tokens_at)
        self._request_at = start + self._per_request
        self._tokens_at = max(self._tokens_at, now) + tokens * self._per_token
        await asyncio.sleep(start - now)

    def give_back(self, tokens: int) -> None:
        """Tokens that a request took and did not use."""
        self._tokens_at -= tokens * self._per_token
