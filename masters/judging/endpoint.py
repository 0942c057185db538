"""A judging model behind an OpenAI-compatible address. It promises the same questions, seeds and settings, not equal bytes."""

import asyncio
import functools
import json
import os
from collections.abc import Sequence
from typing import Any

import httpx2
import openai

from masters.config.score import EndpointJudge
from masters.judging.judges import Question, Reply
from masters.judging.pace import Pace

_GIVE_UP = 20  # requests in a row, each repeated `attempts` times
_BYTES_PER_TOKEN = 3  # fewer than English has: a limit that is kept by guess is guessed low
_REFUSED = (401, 403, 404)
_SIMPLEST = Question([{"role": "user", "content": [{"type": "text", "text": "Answer with 1."}]}], 0, 16, 0.0)
"""Whether an endpoint answers at all: so a question that fails alone is told from an endpoint that is gone."""


class EndpointError(ConnectionError):
    """An endpoint that answers nobody: no response is to blame, and what has no verdict yet can be asked another time."""


@functools.cache
def endpoint(config: EndpointJudge, workers: int) -> "EndpointModel":
    """The one model of this process for a judge: what it knows about pace and failures outlives a shard."""
    return EndpointModel(config, workers)


class EndpointModel:
    """Asks with bounded concurrency and pace; a request that fails is repeated by the openai client, later and later.

    Args:
        config: of the judge.
        workers: processes that ask at the same time, each with its share of the limits.

    Raises:
        EndpointError: where the key's variable is not set.
    """

    control_tokens: tuple[str, ...] = ()  # nobody says which; those of the form <|...|> are broken up in any case

    def __init__(self, config: EndpointJudge, workers: int = 1):
        self._config = config
        self._key = endpoint_key(config)
        self._at_once = max(1, config.max_concurrency // workers)
        self._pace = Pace(config.requests_per_minute / workers, config.tokens_per_minute / workers)
        self._failed_in_a_row, self._last_failure = 0, ""

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """Replies in the order of the questions; those that got none say why.

        Raises:
            EndpointError: where the endpoint answered none of many requests in a row; or not the last ones, and nor the
                simplest question after them.
        """
        return asyncio.run(self._ask_all(questions))

    async def _ask_all(self, questions: Sequence[Question]) -> list[Reply]:
        free = asyncio.Semaphore(self._at_once)
        transport = _Paced(self._pace, self._config.timeout_seconds)
        async with (
            httpx2.AsyncClient(transport=transport, timeout=None) as http,
            openai.AsyncOpenAI(
                api_key=self._key or "none",
                base_url=self._config.base_url,
                max_retries=self._config.attempts - 1,
                http_client=http,
            ) as client,
        ):
            replies = await asyncio.gather(*(self._ask(client, free, question) for question in questions))
            await self._look_whether_it_answers(client, replies)
            lost = [place for place, reply in enumerate(replies) if reply.failure and not _is_refusal(reply.failure)]
            if lost and self._failed_in_a_row < _GIVE_UP:  # it was away for a while, or these take too long
                again = await asyncio.gather(*(self._ask(client, free, questions[place]) for place in lost))
                for place, reply in zip(lost, again, strict=True):
                    replies[place] = reply
                await self._look_whether_it_answers(client, replies)
        self._check()
        return replies

    async def _look_whether_it_answers(self, client: openai.AsyncOpenAI, replies: Sequence[Reply]) -> None:
        """Where the last requests failed: if the simplest one does, too, it is not the questions, and nothing of this counts.

        A server that answers some and then refuses one answers: in which order they end says nothing.
        """
        if 0 < self._failed_in_a_row < _GIVE_UP:
            answers = _is_refusal(self._last_failure) and not all(reply.failure for reply in replies)
            failed = not answers and (await self._request(client, _SIMPLEST)).failure
            self._failed_in_a_row = _GIVE_UP if failed else 0

    async def _ask(self, client: openai.AsyncOpenAI, free: asyncio.Semaphore, question: Question) -> Reply:
        async with free:
            if self._failed_in_a_row >= _GIVE_UP:
                return Reply("", self._last_failure)
            reply = await self._request(client, question)
        self._failed_in_a_row = self._failed_in_a_row + 1 if reply.failure else 0
        self._last_failure = reply.failure or self._last_failure
        return reply

    async def _request(self, client: openai.AsyncOpenAI, question: Question) -> Reply:
        chat: Any = [{**turn, "content": turn["content"][0]["text"]} for turn in question.chat]  # servers read texts
        most = tokens_at_most(json.dumps(chat, ensure_ascii=False), question.max_tokens)
        try:
            completion = await client.chat.completions.create(
                model=self._config.model,
                messages=chat,
                max_tokens=question.max_tokens,
                temperature=question.temperature,
                seed=question.seed,
                extra_headers={_Paced.TOKENS: str(most)},
            )
            text = completion.choices[0].message.content
            if text is not None and not isinstance(text, str):
                raise TypeError
        except openai.APIStatusError as error:
            if error.status_code in _REFUSED:
                self._failed_in_a_row = _GIVE_UP
            return Reply("", f"HTTP {error.status_code}: {_line(error.message)}")
        except openai.APIConnectionError as error:
            return Reply("", _line(str(error.__cause__ or error)) or type(error.__cause__ or error).__name__)
        except (openai.OpenAIError, AttributeError, IndexError, TypeError, ValueError):
            return Reply("", "what came is no answer of an OpenAI-compatible server")
        used = getattr(completion.usage, "total_tokens", None)
        if isinstance(used, int):
            self._pace.give_back(most - used)
        return Reply(text or "")

    def _check(self) -> None:
        gives_up = self._failed_in_a_row >= _GIVE_UP
        self._failed_in_a_row = 0
        if not gives_up:
            return
        where, key = self._config.base_url, self._config.key_env
        remedy = "Is it up, and is score.judge.model its name there?"
        if self._last_failure.startswith(("HTTP 401", "HTTP 403")):
            remedy = (
                f"Is the key in {key} right?" if key else "Give the NAME of the key's variable in score.judge.key_env."
            )
        elif self._last_failure.startswith("HTTP 429"):
            remedy = "Lower score.judge.requests_per_minute, tokens_per_minute or max_concurrency."
        raise EndpointError(
            f"score.judge: {where} does not answer ({self._last_failure}). {remedy} Run again to go on."
        )


def endpoint_key(config: EndpointJudge) -> str | None:
    """The key, or None where none is asked for. Raises EndpointError where its variable is not set."""
    key = os.environ.get(config.key_env) if config.key_env else None
    if config.key_env and not key:
        rule = "is not set where score runs"
        raise EndpointError(
            f"score.judge.key_env = {config.key_env}: {rule}. Export the key of {config.base_url} there."
        )
    return key


def tokens_at_most(prompt: str, max_tokens: int) -> int:
    """Of a request: its prompt's, by guess, and its answer's."""
    return len(prompt.encode()) // _BYTES_PER_TOKEN + max_tokens


class _Paced(httpx2.AsyncHTTPTransport):
    """Every request, repeated ones too, waits for its turn; then it has so many seconds, however slowly bytes trickle in."""

    TOKENS = "x-masters-tokens"  # how many a request may use; not sent

    def __init__(self, pace: Pace, seconds: float):
        super().__init__()
        self._pace, self._seconds = pace, seconds

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await self._pace.turn(int(request.headers.pop(self.TOKENS, 0)))
        try:
            async with asyncio.timeout(self._seconds):
                response = await super().handle_async_request(request)
                await response.aread()
                return response
        except TimeoutError as error:
            raise httpx2.ReadTimeout(f"no answer within {self._seconds:g} seconds", request=request) from error


def _is_refusal(failure: str) -> bool:
    """Whether a request is itself at fault: it will not get better."""
    return failure.startswith("HTTP 4") and not failure.startswith(("HTTP 408", "HTTP 409", "HTTP 429"))


def _line(text: str) -> str:
    """The first line of what a library or server says, in a length that fits a table."""
    return (text.strip().splitlines() or [""])[0][:200]
