"""A judging model on an engine in this process."""

from collections.abc import Sequence
from typing import Any

from masters.engines.masked_vllm import MaskedEngine, Request, Sampling
from masters.judging.judges import Question, Reply


class EngineModel:
    """An engine with the chat template of its model.

    Args:
        engine: answers.
        chat: has `prompt(chat)` and a `tokenizer`.
        longest: prompt and answer together, in tokens.
    """

    def __init__(self, engine: MaskedEngine, chat: Any, longest: int):
        self._engine, self._chat, self._longest = engine, chat, longest
        self.control_tokens = tuple(chat.tokenizer.get_added_vocab())

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """All in one batch. What leaves no room for the answer is not asked."""
        prompts = [self._chat.prompt(question.chat) for question in questions]
        fitting = [i for i, prompt in enumerate(prompts) if self._fits(prompt, questions[i].max_tokens)]
        requests = [Request(prompts[i], (), questions[i].seed) for i in fitting]
        answers = []
        if requests:
            sampling = Sampling(1, questions[0].max_tokens, questions[0].temperature)
            answers = self._engine.generate(requests, sampling)
        replies = dict(zip(fitting, (Reply(answer[0].text) for answer in answers), strict=True))
        no_room = Reply("", f"the prompt leaves no room in engine.max_model_len {self._longest}")
        return [replies.get(i, no_room) for i in range(len(prompts))]

    def _fits(self, prompt: str, max_tokens: int) -> bool:
        return len(self._chat.tokenizer(prompt).input_ids) + max_tokens <= self._longest
