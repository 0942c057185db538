"""The two prompts of the paper's Appendix D, in our own words, from the text files beside this module."""

import re
from importlib.resources import files
from typing import Any

_TAGS = re.compile(
    r"<(?=\s*/?\s*(?:question|ground truth|generated text|answer|overall_summary|think)\s*/?\s*>)",
    re.IGNORECASE,
)


def evaluate_prompt(question: str, ground_truth: str, generated_text: str) -> list[dict[str, Any]]:
    """The first prompt: explain, then score in <answer></answer>."""
    user = _read("evaluate_user").format(
        question=escape(question), ground_truth=escape(ground_truth), generated_text=escape(generated_text)
    )
    return _chat(_read("evaluate_system"), user)


def score_prompt(summary: str) -> list[dict[str, Any]]:
    """The second prompt: the score alone, from the first one's completion."""
    return _chat(_read("score_system"), _read("score_user").format(summary=escape(summary, keep_answer=True)))


def escape(text: str, *, keep_answer: bool = False) -> str:
    """Text in which none of our tags can be opened or closed by what is quoted.

    The summary keeps the judge's own <answer>: that is what the second prompt reads.
    """

    def replace(match: re.Match[str]) -> str:
        return "<" if keep_answer and re.match(r"\s*/?\s*answer", text[match.end() :], re.IGNORECASE) else "&lt;"

    return _TAGS.sub(replace, text)


def _read(name: str) -> str:
    return (files("masters.judging") / "prompts" / f"{name}.txt").read_text(encoding="utf-8").strip()


def _chat(system: str, user: str) -> list[dict[str, Any]]:
    return [
        {"role": "system", "content": [{"type": "text", "text": system}]},
        {"role": "user", "content": [{"type": "text", "text": user}]},
    ]
