"""Judges: each gives a verdict to each item, or null."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from masters.config.score import PromptedJudge as PromptedJudgeConfig
from masters.data.shards import response_seed
from masters.judging.choice import label_letter, lettered
from masters.judging.matching import matches
from masters.judging.parser import answer_tag, verdict
from masters.judging.prompts import evaluate_prompt, score_prompt

_RETRY_TEMPERATURE = 0.7
_SCORE_TOKENS = 16


@dataclass(frozen=True)
class Item:
    """A response to be judged. `key` names the sample, for seeds; `options` are those of multiple choice, in order."""

    key: str
    question: str
    answers: Sequence[str]
    answer_type: str
    response: str
    options: Sequence[str] | None = None

    @property
    def ground_truth(self) -> str:
        """The label; of multiple choice, the option's letter and text."""
        options = lettered(self.options) if self.answer_type == "choice" and self.options else {}
        letter = label_letter(self.answers[0], options)
        return f"{letter}. {options[letter]}" if letter else self.answers[0]


@dataclass(frozen=True)
class Verdict:
    """1 right, 0 wrong, None unknown; and the judge's words, or why there are none."""

    value: int | None
    explanation: str


class Judge(Protocol):
    """Anything that judges."""

    name: str

    def judge(self, items: Sequence[Item]) -> list[Verdict]:
        """A verdict for each item, in order."""
        ...


class RuleJudge:
    """Normalised match with an accepted answer."""

    name = "rule"

    def __init__(self, numeric_tolerance: float):
        self._tolerance = numeric_tolerance

    def judge(self, items: Sequence[Item]) -> list[Verdict]:
        """1 for a match, else 0; never null."""
        return [
            Verdict(
                int(matches(item.response, item.answers, item.answer_type, self._tolerance, item.options)),
                "normalised match",
            )
            for item in items
        ]


@dataclass(frozen=True)
class Question:
    """What a judging model is asked: a chat, and how its answer is sampled."""

    chat: list[dict[str, Any]]
    seed: int
    max_tokens: int
    temperature: float


@dataclass(frozen=True)
class Reply:
    """A model's words; or why there are none, which asking again does not change."""

    text: str
    failure: str = ""


class Model(Protocol):
    """What answers a judge's questions: an engine in this process, or an endpoint."""

    @property
    def control_tokens(self) -> Sequence[str]:
        """Tokens of its chats, which must not be whole in quoted text."""
        ...

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """A reply to each question, in order; all have the same `max_tokens` and `temperature`."""
        ...


class PromptedJudge:
    """A model, asked twice (Appendix D): for an explained score, then for the integer alone.

    A null verdict is asked for again with another seed, `attempts` times in all. With `second_prompt: unclear` the second
    prompt is left out where the first one's score can be read.
    """

    def __init__(self, name: str, model: Model, config: PromptedJudgeConfig, seed: int):
        self.name, self._model, self._config, self._seed = name, model, config, seed

    def judge(self, items: Sequence[Item]) -> list[Verdict]:
        """Equal responses to a question are judged once."""
        distinct = {(item.key, item.response): item for item in items}
        verdicts: dict[tuple[str, str], Verdict] = {}
        open_ = list(distinct)
        for attempt in range(self._config.attempts):
            if not open_:
                break
            asked = [distinct[key] for key in open_]
            first, second = self._ask(asked, attempt)
            verdicts.update(zip(open_, map(self._verdict, first, second), strict=True))
            failed = {
                key for key, *replies in zip(open_, first, second, strict=True) if any(r.failure for r in replies)
            }
            open_ = [key for key in open_ if verdicts[key].value is None and key not in failed]
        return [verdicts[item.key, item.response] for item in items]

    def _ask(self, items: Sequence[Item], attempt: int) -> tuple[list[Reply], list[Reply]]:
        """Replies to both prompts; an empty one where the second is not asked."""
        chats = [self._first(item) for item in items]
        first = self._complete(chats, items, attempt, "evaluate", self._config.max_tokens)
        summaries = [
            score_prompt(reply.text, self._code(item, "score"), self._model.control_tokens)
            if self._asks(reply)
            else None
            for reply, item in zip(first, items, strict=True)
        ]
        return first, self._complete(summaries, items, attempt, "score", _SCORE_TOKENS)

    def _asks(self, first: Reply) -> bool:
        return bool(first.text.strip()) and not self._is_clear(first)

    def _is_clear(self, first: Reply) -> bool:
        return self._config.second_prompt == "unclear" and answer_tag(first.text) is not None

    def _verdict(self, first: Reply, second: Reply) -> Verdict:
        failure = first.failure or second.failure
        if failure:
            return Verdict(None, f"no answer: {failure}")
        value = answer_tag(first.text) if self._is_clear(first) else verdict(first.text, second.text)
        return Verdict(value, first.text)

    def _first(self, item: Item) -> list[dict[str, Any]]:
        code = self._code(item, "evaluate")
        return evaluate_prompt(item.question, item.ground_truth, item.response, code, self._model.control_tokens)

    def _code(self, item: Item, which: str) -> str:
        """Of the delimiters: one for all responses of a sample, so that their prompts begin alike and are cached."""
        return f"{response_seed(self._seed, item.key, f'{which}/code'):016x}"

    def _complete(
        self,
        chats: Sequence[list[dict[str, Any]] | None],
        items: Sequence[Item],
        attempt: int,
        which: str,
        max_tokens: int,
    ) -> list[Reply]:
        """The model's replies; an empty one without a chat."""
        temperature = self._config.temperature if attempt == 0 else _RETRY_TEMPERATURE
        questions = {
            place: Question(
                chat,
                response_seed(self._seed, f"{item.key}/{item.response}", f"{which}/{attempt}"),
                max_tokens,
                temperature,
            )
            for place, (chat, item) in enumerate(zip(chats, items, strict=True))
            if chat
        }
        replies = dict(zip(questions, self._model.ask(list(questions.values())) if questions else (), strict=True))
        return [replies.get(place, Reply("")) for place in range(len(chats))]
