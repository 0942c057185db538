"""Option letter: the rules of `masters.judging.choice`, then a judge that maps the answer to a letter."""

from collections.abc import Collection
from string import ascii_uppercase

from masters.benchmarks.asking import chat, quoted_options
from masters.benchmarks.facts import Benchmark
from masters.benchmarks.questions import Question
from masters.judging.choice import label_letter, resolve
from masters.judging.parser import spoken

_TEN = dict.fromkeys(ascii_uppercase[:10], "")
_LINE = "answer:"


def extract(question: Question, response: str) -> str | None:
    """The letter that a response chooses, Z for a refusal, None where the rules see none."""
    return resolve(response, lettered_options(question))


def value(question: Question, letter: str) -> float:
    """1 for the right letter, else 0."""
    return float(letter == gold_letter(question))


def judge_prompt(
    question: Question, response: str, code: str, control_tokens: Collection[str]
) -> list[dict[str, object]]:
    """Asks which option the response means. The right answer is not told."""
    options = quoted_options(lettered_options(question), control_tokens)
    return chat("letter", code, control_tokens, {"question": question.question, "response": response}, options=options)


def judge_reply(question: Question, reply: str) -> str | None:
    """The letter that a judge says, Z for none of the options; None where it cannot be read."""
    return resolve(reply, lettered_options(question))


def last_line(response: str) -> str:
    """What follows `Answer:` in the last line that begins so, without $; the whole response where no line does."""
    said = spoken(response)
    lines = [line.strip() for line in (said or "").splitlines()]
    found = [line[len(_LINE) :] for line in lines if line.lower().startswith(_LINE)]
    return found[-1].replace("$", " ") if found else response


def lettered_options(question: Question) -> dict[str, str]:
    """Options by letter; ten without text where they stand in the image."""
    return dict(question.options) or _TEN


def gold_letter(question: Question) -> str | None:
    """The right option's letter; None where the answer is none of the options."""
    return label_letter(question.answer, lettered_options(question))


def is_choice(benchmark: Benchmark, question: Question) -> bool:
    """Whether a question is answered with one of its options."""
    if benchmark.metric == "typed":
        return question.is_multi_choice
    if benchmark.metric == "mmmu":
        return bool(question.options)
    return benchmark.metric in ("letter", "circular", "mmmu_pro")
