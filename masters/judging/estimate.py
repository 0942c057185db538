"""What an endpoint will be asked, before it is asked: requests, tokens, hours, price. No torch; bounds, not promises."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from masters.config.run import RunConfig
from masters.config.score import EndpointJudge
from masters.judging.prompts import evaluate_prompt, score_prompt

_BYTES_PER_TOKEN = 4
_SCORE_TOKENS = 16
_LOOKED_AT = 1000
_QUESTION_TOKENS = 60  # question and label, where no samples say it
_UNKNOWN = 1000  # questions


@dataclass(frozen=True)
class Estimate:
    """At most so many requests and tokens, with every answer as long as allowed; repeated requests are not in it."""

    questions: int
    responses: int
    requests: int
    prompt_tokens: int
    answer_tokens: int


def estimate(config: RunConfig, questions: int, question_tokens: float, response_tokens: float) -> Estimate:
    """For so many questions, of so many tokens with their labels, and responses of so many tokens.

    What needs no judge (matches, equal responses, known verdicts) is not left out.
    """
    judge, mix = config.score.judge, config.generate.mix
    assert isinstance(judge, EndpointJudge)
    levels = [len(config.levels(i)) if config.generate.coverage == "all" else 1 for i in range(len(config.curriculum))]
    responses = questions * (mix.teacher * sum(levels) + mix.student)
    code = "0" * 16
    first = _tokens(evaluate_prompt("", "", "", code)) + question_tokens + response_tokens
    second = _tokens(score_prompt("", code)) + judge.max_tokens
    twice = judge.second_prompt == "always"
    return Estimate(
        questions,
        responses,
        responses * (1 + twice),
        round(responses * (first + twice * second)),
        responses * (judge.max_tokens + twice * _SCORE_TOKENS),
    )


def judge_cost(config: RunConfig) -> Iterator[str]:
    """Lines for `masters check`: from the run's samples and responses, where they are there; none for other judges."""
    judge = config.score.judge
    if not isinstance(judge, EndpointJudge):
        return
    questions, question_tokens, response_tokens, source = _measured(config)
    found = estimate(config, questions, question_tokens, response_tokens)
    price = found.prompt_tokens / 1e6 * judge.prompt_price + found.answer_tokens / 1e6 * judge.answer_price
    hours = [
        amount / limit / 60
        for amount, limit in (
            (found.requests, judge.requests_per_minute),
            (found.prompt_tokens + found.answer_tokens, judge.tokens_per_minute),
        )
        if limit
    ]
    yield (
        f"judge {judge.model}, {source}: {found.responses:,} responses, at most {found.requests:,} requests, "
        f"{found.prompt_tokens / 1e6:,.1f} M prompt tokens, {found.answer_tokens / 1e6:,.1f} M answer tokens"
        + (f", {max(hours):,.1f} hours at its limits" if hours else "")
        + (f", price {price:,.2f}" if price else "; its prices are not set")
    )


def _measured(config: RunConfig) -> tuple[int, float, float, str]:
    """Questions, tokens of question and label, tokens of a response; and where that is from."""
    assumed = _UNKNOWN, float(_QUESTION_TOKENS), float(config.generate.max_tokens), f"for {_UNKNOWN:,} questions"
    if not find_spec("pyarrow"):
        return assumed
    from masters.data.manifests import read_manifest
    from masters.data.samples import read_samples
    from masters.data.storage import Storage

    run = Storage(config.storage).folder(config.name)
    try:
        prepared, generated = read_manifest(run, "prepare"), read_manifest(run, "generate")
        total = prepared.counts.get("train", 0) if prepared and prepared.status == "done" else 0
        samples = read_samples(run, "train", 0, min(total, _LOOKED_AT))
    except OSError:  # storage that only the cluster reaches
        return assumed
    if not samples:
        return assumed
    text = sum(len(sample["question"].encode()) + len(sample["answer"].encode()) for sample in samples)
    tokens, source = float(config.generate.max_tokens), f"for the {total:,} questions of the run"
    if generated and generated.status == "done":
        counts = generated.counts
        answered = [name for name in counts["responses"] if name != "label"]
        tokens = sum(counts["tokens"].get(name, 0) for name in answered) / max(
            1, sum(counts["responses"][name] for name in answered)
        )
        source = f"for the {total:,} questions and the answers of the run"
    return total, text / _BYTES_PER_TOKEN / len(samples), tokens, source


def _tokens(chat: Sequence[dict[str, Any]]) -> float:
    return sum(len(turn["content"][0]["text"].encode()) for turn in chat) / _BYTES_PER_TOKEN
