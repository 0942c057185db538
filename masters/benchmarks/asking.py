"""Asking a judge until its reply can be read. What it is told is quoted, so that an answer cannot give it orders."""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from masters.data.shards import response_seed
from masters.judging.judges import Question as Asked
from masters.judging.judges import Reply
from masters.judging.prompts import escape

_RETRY_TEMPERATURE = 0.7

Chat = list[dict[str, Any]]


@dataclass(frozen=True)
class Judge:
    """A model that reads what the rules cannot.

    Attributes:
        name: stands in every score that it had a part in.
        ask: a reply to each question, in order, as `masters.judging.judges.Model.ask` gives them.
        control_tokens: of its chats; they must not be whole in quoted text.
        attempts: how often it is asked until its reply can be read.
        max_tokens: of a reply.
    """

    name: str
    ask: Callable[[Sequence[Asked]], Sequence[Reply]]
    control_tokens: Sequence[str] = ()
    attempts: int = 3
    max_tokens: int = 64


@dataclass(frozen=True)
class Task:
    """One thing to ask. `key` names it, for seeds; `read` gives None for a reply that cannot be read."""

    key: str
    chat: Chat
    read: Callable[[str], str | None]


def ask_all(judge: Judge, tasks: Sequence[Task]) -> list[str | None]:
    """What the judge's replies say, in order; None where none of its attempts can be read, or it refuses to reply."""
    found: list[str | None] = [None] * len(tasks)
    open_ = list(range(len(tasks)))
    for attempt in range(judge.attempts):
        if not open_:
            break
        temperature = 0.0 if attempt == 0 else _RETRY_TEMPERATURE
        asked = [
            Asked(tasks[i].chat, response_seed(0, tasks[i].key, f"attempt {attempt}"), judge.max_tokens, temperature)
            for i in open_
        ]
        replies = list(zip(open_, judge.ask(asked), strict=True))
        for i, reply in replies:
            found[i] = None if reply.failure else tasks[i].read(reply.text)
        open_ = [i for i, reply in replies if found[i] is None and not reply.failure]
    return found


def code_of(key: str) -> str:
    """Of the delimiters around what is quoted: nobody who wrote it can know it."""
    return f"{response_seed(0, key, 'code'):016x}"


def chat(name: str, code: str, control_tokens: Collection[str], quoted: Mapping[str, str], **trusted: str) -> Chat:
    """The prompt of a name, with what is quoted escaped."""
    safe = {field: escape(text, control_tokens) for field, text in quoted.items()}
    user = _read(f"{name}_user").format(code=code, **safe, **trusted)
    return [_message("system", _read(f"{name}_system")), _message("user", user)]


def quoted_options(options: Mapping[str, str], control_tokens: Collection[str]) -> str:
    """One option a line; those without text are their letter alone."""
    return "\n".join(f"{letter}. {escape(text, control_tokens)}".rstrip() for letter, text in options.items())


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


@functools.cache
def _read(name: str) -> str:
    return (files("masters.benchmarks") / "prompts" / f"{name}.txt").read_text(encoding="utf-8").strip()
