"""Supervised training of the tiny judge on the two prompts that LLM judges are asked: what `masters tiny train judge` runs.

All responses to a question share its prompt in one row, as branches; so do the summaries of the second prompt. The first half
of the steps leaves out the system prompts, and the delimiters' codes grow from nothing: to find and compare two answers is
learned much sooner in a short text.
"""

import random
import time
from collections.abc import Callable, Sequence
from itertools import count, islice, takewhile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from masters.config.score import PromptedJudge as PromptedJudgeConfig
from masters.data.sources.charts import Question, scenes
from masters.judging import judges
from masters.judging.judges import Item, PromptedJudge, Reply
from masters.judging.prompts import evaluate_prompt, score_prompt
from masters.judging.tiny_examples import Example, examples, training_questions
from masters.models.chat import ChatProcessor
from masters.models.folder import family_of
from masters.models.packing import Branch, Row, hidden_states, pack_rows, prompt_positions
from masters.models.tiny import SIZES, build_model, build_tokenizer, save
from masters.models.tiny_training import TinyRecipe, optimise

STEPS = 4800
LONGEST_EXPLANATION, LONGEST = 48, 640
"""Tokens: of `score.judge.max_tokens`, and of the engine's `max_model_len`; prompts of the charts take about 420."""
_CODE = 16  # digits, of the delimiters of real prompts
_SHORT, _QUESTIONS, _RESPONSES, _SUMMARIES = 0.55, 3, 8, 2
_TEST_SEED, _TEST_BATCH = 999, 16
_CORPUS_TIMES = 50  # the texts of the prompts, beside thousands of short answers


class GreedyModel:
    """A model in this process, without an engine, as a judge asks it. Seeds and temperatures are passed over."""

    def __init__(self, model: Any, chat: ChatProcessor):
        self._model, self._chat = model, chat
        self.control_tokens = tuple(chat.tokenizer.get_added_vocab())

    @torch.inference_mode()
    def ask(self, questions: Sequence[judges.Question]) -> list[Reply]:
        """Its most probable words to each question."""
        tokenizer, replies = self._chat.tokenizer, list[Reply]()
        tokenizer.padding_side = "left"
        for start in range(0, len(questions), _TEST_BATCH):
            batch = questions[start : start + _TEST_BATCH]
            prompts = [self._chat.prompt(question.chat) for question in batch]
            inputs = tokenizer(prompts, padding=True, return_tensors="pt")
            output = self._model.generate(**inputs, max_new_tokens=batch[0].max_tokens, do_sample=False)
            texts = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            replies += [Reply(text) for text in texts]
        return replies


def train_folder(
    folder: Path, steps: int, seed: int, progress: Callable[[int, float], None], responses: int = 1000
) -> dict[str, Any]:
    """Train a judge from scratch, write its folder, and measure what was written on so many held-out responses.

    Returns what stands beside the model: parameters, CPU-minutes, and agreement with the rule on held-out responses.
    """
    torch.set_num_threads(1)  # at these sizes more threads are slower
    began = time.process_time()
    tokenizer = build_tokenizer(_prompt_texts() * _CORPUS_TIMES)
    model = build_model(SIZES["judge"], tokenizer, seed)
    save(model, tokenizer, folder, torch.float32)
    chat = ChatProcessor(folder, family_of(folder))
    rng, step = random.Random(seed), count()
    optimise(
        model,
        TinyRecipe(steps, seed),
        lambda: _loss(model, chat, rng, done=next(step) / steps),
        progress,
    )
    save(model, tokenizer, folder)
    minutes = (time.process_time() - began) / 60
    parameters = sum(weight.numel() for weight in model.parameters())
    measured = agreement(GreedyModel(model.float(), chat), held_out(responses))
    return {"parameters": parameters, "cpu_minutes": round(minutes, 1), **measured}


def held_out(number: int) -> list[tuple[Question, Example]]:
    """One response to each question about test images that no training shows with its question and label."""
    rng = random.Random(_TEST_SEED)
    questions = (question for _, scene in scenes(_TEST_SEED, "test") for question in scene.questions)
    pairs = ((question, one) for question in questions for one in islice(examples(question, rng, held_out=True), 1))
    return list(islice(pairs, number))


def agreement(model: judges.Model, asked: Sequence[tuple[Question, Example]]) -> dict[str, Any]:
    """How often the model, asked once as `score.judge` asks it, says what the rule says; null never agrees.

    Returns shares of all responses, and [share, responses] by kind of response.
    """
    config = PromptedJudgeConfig(max_tokens=LONGEST_EXPLANATION, attempts=1)
    items = [
        Item(f"{place}", one.question, [one.label, *question.answers], "text", one.response)
        for place, (question, one) in enumerate(asked)
    ]
    verdicts = PromptedJudge("model", model, config, seed=_TEST_SEED).judge(items)
    by_kind: dict[str, list[bool]] = {}
    for (_, example), verdict in zip(asked, verdicts, strict=True):
        by_kind.setdefault(example.kind, []).append(verdict.value == example.verdict)
    return {
        "responses": len(asked),
        "agreement": _mean([agrees for kind in by_kind.values() for agrees in kind]),
        "by_kind": {kind: [_mean(agrees), len(agrees)] for kind, agrees in sorted(by_kind.items())},
        "null": _mean([verdict.value is None for verdict in verdicts]),
        "right_by_rule": _mean([example.verdict == 1 for _, example in asked]),
    }


def _loss(model: Any, chat: ChatProcessor, rng: random.Random, done: float) -> Tensor:
    """Cross-entropy on the explanations of responses to some questions, and on the scores of some of these explanations.

    Args:
        model: in training.
        chat: its processor.
        rng: draws.
        done: share of the steps that lie behind. Up to `_SHORT` there is no system prompt, and codes grow from none.
    """
    rows, drawn, short = [], list[Example](), done < _SHORT
    digits = round(_CODE * min(1, done / _SHORT))
    for question in rng.sample(training_questions(), _QUESTIONS):
        answered = list(islice(examples(question, rng, held_out=False), _RESPONSES))
        code = _code(rng, rng.randint(0, digits) if short else _CODE)
        chats = [evaluate_prompt(one.question, one.label, one.response, code) for one in answered]
        rows.append(_row(model, chat, [one[short:] for one in chats], [one.explanation for one in answered]))
        drawn += answered
    summed_up, code = rng.sample(drawn, _SUMMARIES), _code(rng, digits)
    chats = [score_prompt(one.explanation, code) for one in summed_up]
    rows.append(_row(model, chat, [one[short:] for one in chats], [str(one.verdict) for one in summed_up]))
    packed = pack_rows(rows)
    logits = model.lm_head(hidden_states(model, packed, {}))
    return F.cross_entropy(logits, packed.target_T)


def _row(model: Any, chat: ChatProcessor, chats: Sequence[list[dict[str, Any]]], completions: Sequence[str]) -> Row:
    """Chats that begin alike, with what is to be learned."""
    prompts = [chat.tokenizer(chat.prompt(one)).input_ids for one in chats]
    columns = zip(*(ids[:-1] for ids in prompts), strict=False)  # a branch begins with at least one token of its own
    shared = sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, columns))
    prefix = torch.tensor(prompts[0][:shared])
    branches = [
        Branch([*ids[shared:], *chat.answer_ids(completion)], first_target=len(ids) - shared)
        for ids, completion in zip(prompts, completions, strict=True)
    ]
    return Row(prefix, prompt_positions(model, prefix, {}), branches)


def _code(rng: random.Random, digits: int) -> str:
    return f"{rng.getrandbits(4 * _CODE):0{_CODE}x}"[:digits]


def _prompt_texts() -> list[str]:
    chats = evaluate_prompt("", "", "", ""), score_prompt("", "")
    explained = next(examples(training_questions()[0], random.Random(0), held_out=False)).explanation
    return [part["text"] for chat in chats for message in chat for part in message["content"]] + [explained]


def _mean(values: Sequence[bool]) -> float:
    return round(sum(values) / max(1, len(values)), 4)
