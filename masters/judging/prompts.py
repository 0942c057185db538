"""The two prompts of the paper's Appendix D, in our own words, from the text files beside this module.

What is quoted in them was written by models and strangers. Its delimiters hold a code that the quoted text cannot know, and
neither our tags nor the control tokens of a chat survive in it.
"""

import re
import unicodedata
from collections.abc import Collection
from importlib.resources import files
from typing import Any

_NAMES = r"question|ground[\s_-]*truth|generated[\s_-]*text|answer|overall[\s_-]*summary|think"
_TAGS = re.compile(rf"[<‹〈⟨﹤](?=\s*[/\\]?\s*(?:{_NAMES})(?![^\W_]))", re.IGNORECASE)
_ANSWER = re.compile(r"<\s*/?\s*answer\s*>", re.IGNORECASE)
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_SELECTORS = range(0xFE00, 0xFE10)


def evaluate_prompt(
    question: str, ground_truth: str, generated_text: str, code: str, control_tokens: Collection[str] = ()
) -> list[dict[str, Any]]:
    """The first prompt: explain, then score in <answer></answer>.

    Args:
        question, ground_truth, generated_text: quoted.
        code: stands in the delimiters of what is quoted.
        control_tokens: of the judge's tokenizer; those of the form <|...|> need not be named.
    """
    user = _read("evaluate_user").format(
        code=code,
        question=escape(question, control_tokens),
        ground_truth=escape(ground_truth, control_tokens),
        generated_text=escape(generated_text, control_tokens),
    )
    return _chat(_read("evaluate_system"), user)


def score_prompt(summary: str, code: str, control_tokens: Collection[str] = ()) -> list[dict[str, Any]]:
    """The second prompt: the score alone, from the first one's completion."""
    quoted = escape(summary, control_tokens, keep_answer=True)
    return _chat(_read("score_system"), _read("score_user").format(code=code, summary=quoted))


def escape(text: str, control_tokens: Collection[str] = (), *, keep_answer: bool = False) -> str:
    """Text without invisible characters, in which no tag of ours opens or closes and no control token is whole.

    Tags count with attributes, underscores, other brackets and full-width letters too. The summary keeps the judge's own
    <answer>: that is what the second prompt reads.
    """
    seen = "".join(c for c in text if unicodedata.category(c) != "Cf" and ord(c) not in _SELECTORS)
    seen = unicodedata.normalize("NFC", seen)  # as tokenizers do, before they look for their tokens
    ordinary = seen.translate(_FULL_WIDTH)  # as long as the text itself
    pieces, last = [], 0
    for tag in _TAGS.finditer(ordinary):
        if keep_answer and _ANSWER.match(seen, tag.start()):
            continue
        pieces += [seen[last : tag.start()], "&lt;"]
        last = tag.end()
    return _broken("".join([*pieces, seen[last:]]), control_tokens)


def _broken(text: str, tokens: Collection[str]) -> str:
    """Every control token with a space behind its first character."""
    text = text.replace("<|", "< |")
    for token in sorted(tokens, key=len, reverse=True):
        if len(token) > 1 and not token.isspace():
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def _read(name: str) -> str:
    return (files("masters.judging") / "prompts" / f"{name}.txt").read_text(encoding="utf-8").strip()


def _chat(system: str, user: str) -> list[dict[str, Any]]:
    return [
        {"role": "system", "content": [{"type": "text", "text": system}]},
        {"role": "user", "content": [{"type": "text", "text": user}]},
    ]
