"""How much there is to do: samples and their lengths, and where these numbers are from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from masters.config.prepare import ChartsSource
from masters.config.run import RunConfig

PAPER_SAMPLES = 1_500_000
"""What is assumed of data that are not here: the paper's number."""
TEST_SAMPLES = 10_000
PROMPT_TOKENS = 1500
RESPONSE_TOKENS = 200
IMAGE_SHARE = 14 / 15
"""Of a prompt's tokens where nothing is known of its images."""
CHART_PROMPT = 21
"""Tokens of a question about a drawn chart, image included."""
CHART_RESPONSE = 5


@dataclass(frozen=True)
class Lengths:
    """Means over the samples.

    Attributes:
        samples: by split.
        images: in a prompt.
        prompt_tokens: images expanded.
        image_tokens: of them.
        response_tokens: of an answer.
        source: in words, where the numbers are from.
    """

    samples: Mapping[str, int]
    images: float
    prompt_tokens: float
    image_tokens: float
    response_tokens: float
    source: str

    @property
    def train(self) -> int:
        """Samples that are trained on."""
        return self.samples.get("train", 0)

    @property
    def rows(self) -> int:
        """Samples of all splits."""
        return sum(self.samples.values())


def assumed(config: RunConfig, counted: Mapping[str, int] | None = None) -> Lengths:
    """Before anything has run.

    Args:
        config: the recipe; what it says of drawn charts is exact.
        counted: rows by split that were counted in files; None where the data are not here.
    """
    sources = config.prepare.sources
    if all(isinstance(source, ChartsSource) for source in sources):
        samples = {
            split: sum(getattr(s, f"{split}_images") * s.questions_per_image for s in sources)  # type: ignore[union-attr]  # all are charts
            for split in ("train", "validation", "test")
        }
        answer = min(CHART_RESPONSE, config.generate.max_tokens)
        return Lengths(samples, 1, CHART_PROMPT, CHART_PROMPT - 5, answer, "charts of the recipe")
    answer = min(RESPONSE_TOKENS, config.generate.max_tokens)
    found = dict(counted or {"train": PAPER_SAMPLES, "test": TEST_SAMPLES})
    where = "rows counted in the files" if counted else "data not here: the paper's number of samples"
    source = f"{where}; {PROMPT_TOKENS:,} prompt and {answer} response tokens assumed"
    return Lengths(found, 1, PROMPT_TOKENS, PROMPT_TOKENS * IMAGE_SHARE, answer, source)


def least() -> Lengths:
    """Of data that nobody has looked at: one question of one token."""
    return Lengths({"train": 1}, 0, 1, 0, 1, "nothing of the data")


def of_run(counts: Mapping[str, Mapping[str, Any]], fallback: Lengths, where: str) -> Lengths:
    """What a run counted: `prepare` gives samples and prompts, `generate` the length of its answers.

    Args:
        counts: of the manifests of stages that are done, by stage.
        fallback: for what is not among them.
        where: names the run.
    """
    found = fallback
    if prepared := counts.get("prepare"):
        found = replace(found, samples={split: prepared[split] for split in ("train", "validation", "test")})
        sources = prepared.get("sources", {}).values()
        prompts, images = (
            {key: sum(source[name][key] for source in sources) for key in ("n", "total")}
            for name in ("prompt", "images")
        )
        if prompts["n"]:
            tokens, each = prompts["total"] / prompts["n"], images["total"] / max(1, images["n"])
            share = found.image_tokens / found.prompt_tokens if each else 0.0
            found = replace(found, prompt_tokens=tokens, image_tokens=share * tokens, images=each)
        found = replace(found, source=f"counted by {where}; response tokens: {found.response_tokens:g} assumed")
    generated = counts.get("generate", {})
    responses = sum(generated.get("responses", {}).values())
    if responses:
        found = replace(
            found, response_tokens=sum(generated["tokens"].values()) / responses, source=f"counted by {where}"
        )
    return found


def given(lengths: Lengths, samples: int | None, prompt_tokens: int | None, response_tokens: int | None) -> Lengths:
    """The same with what was said on the command line."""
    said = []
    if samples is not None:
        lengths = replace(lengths, samples={**lengths.samples, "train": samples})
        said.append("--samples")
    if prompt_tokens is not None:
        share = lengths.image_tokens / lengths.prompt_tokens
        lengths = replace(lengths, prompt_tokens=prompt_tokens, image_tokens=share * prompt_tokens)
        said.append("--prompt-tokens")
    if response_tokens is not None:
        lengths = replace(lengths, response_tokens=response_tokens)
        said.append("--response-tokens")
    return replace(lengths, source=f"{lengths.source}; {', '.join(said)} as given") if said else lengths
