"""Judges: each gives a verdict to each item, or null."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from masters.config.score import TeacherJudge as TeacherJudgeConfig
from masters.data.shards import response_seed
from masters.engines.masked_vllm import MaskedEngine, Request, Sampling
from masters.judging.choice import label_letter, lettered
from masters.judging.matching import matches
from masters.judging.parser import verdict
from masters.judging.prompts import evaluate_prompt, score_prompt
from masters.models.chat import ChatProcessor

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


@dataclass(frozen=True)
class Verdict:
    """1 right, 0 wrong, None unknown; and the judge's words."""

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


class TeacherJudge:
    """The unmasked teacher, asked twice (Appendix D): for an explained score, then for the integer alone.

    A null verdict is asked for again with another seed, `attempts` times in all.
    """

    name = "teacher"

    def __init__(self, engine: MaskedEngine, chat: ChatProcessor, config: TeacherJudgeConfig, longest: int, seed: int):
        self._engine, self._chat, self._config, self._longest, self._seed = (
            engine,
            chat,
            config,
            longest,
            seed,
        )
        self._control_tokens = tuple(chat.tokenizer.get_added_vocab())

    def judge(self, items: Sequence[Item]) -> list[Verdict]:
        """Equal responses to a question are judged once."""
        distinct = {(item.key, item.response): item for item in items}
        verdicts: dict[tuple[str, str], Verdict] = {}
        for attempt in range(self._config.attempts):
            open_ = [key for key in distinct if key not in verdicts or verdicts[key].value is None]
            if not open_:
                break
            verdicts.update(zip(open_, self._ask([distinct[key] for key in open_], attempt), strict=True))
        return [verdicts[item.key, item.response] for item in items]

    def _ask(self, items: Sequence[Item], attempt: int) -> list[Verdict]:
        first = self._complete(
            [self._first(item) for item in items], items, attempt, "evaluate", self._config.max_tokens
        )
        summaries = [
            score_prompt(text, self._code(item, "score"), self._control_tokens) if text.strip() else None
            for text, item in zip(first, items, strict=True)
        ]
        second = self._complete(summaries, items, attempt, "score", _SCORE_TOKENS)
        return [Verdict(verdict(*texts), texts[0]) for texts in zip(first, second, strict=True)]

    def _first(self, item: Item) -> list[dict[str, Any]]:
        code = self._code(item, "evaluate")
        return evaluate_prompt(item.question, _ground_truth(item), item.response, code, self._control_tokens)

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
    ) -> list[str]:
        """The judge's completions; empty, which makes the verdict null, without a chat and where it leaves no room."""
        prompts = [self._chat.prompt(chat) if chat else "" for chat in chats]
        fitting = [i for i, prompt in enumerate(prompts) if prompt and self._fits(prompt, max_tokens)]
        temperature = self._config.temperature if attempt == 0 else _RETRY_TEMPERATURE
        requests = [
            Request(
                prompts[i],
                (),
                response_seed(self._seed, f"{items[i].key}/{items[i].response}", f"{which}/{attempt}"),
            )
            for i in fitting
        ]
        answers = self._engine.generate(requests, Sampling(1, max_tokens, temperature)) if requests else []
        texts = dict(zip(fitting, (answer[0].text for answer in answers), strict=True))
        return [texts.get(i, "") for i in range(len(prompts))]

    def _fits(self, prompt: str, max_tokens: int) -> bool:
        return len(self._chat.tokenizer(prompt).input_ids) + max_tokens <= self._longest


def _ground_truth(item: Item) -> str:
    """The label; of multiple choice, the option's letter and text."""
    options = lettered(item.options) if item.answer_type == "choice" and item.options else {}
    letter = label_letter(item.answers[0], options)
    return f"{letter}. {options[letter]}" if letter else item.answers[0]
