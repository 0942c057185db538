"""How responses are judged."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from masters.config.base import EnvironmentVariable, Folder, Section, ours, paper
from masters.config.models import ModelConfig


def web_address(url: str) -> str:
    """Refuses what is no http address, and what may hold a password: an address is copied and shown."""
    scheme, slashes, rest = url.partition("://")
    if scheme not in ("http", "https") or not slashes or not rest.strip("/"):
        raise ValueError("is no http:// or https:// address. Write https://HOST/v1.")
    if "@" in rest or "?" in rest:
        raise ValueError(
            "holds a user or settings after `?`, which everyone would see. Put the key into key_env's variable."
        )
    return url.rstrip("/")


class RuleJudge(Section):
    """Normalised match with the accepted answers."""

    type: Literal["rule"]


class PromptedJudge(Section):
    """What all models that judge have in common: they are asked with the two prompts of the paper's Appendix D."""

    max_tokens: int = ours(512, "Longest explanation, in tokens.", ge=16)
    temperature: float = ours(
        0.0, "Of the first attempt; later ones use 0.7, or they would repeat the first.", ge=0, le=2
    )
    attempts: int = ours(3, "How often a null verdict is asked for, each time with another seed.", ge=1, le=10)
    second_prompt: Literal["always", "unclear"] = paper(
        "always", "Appendix D", "unclear: only where the first prompt's score cannot be read."
    )


class TeacherJudge(PromptedJudge):
    """The unmasked teacher of the level."""

    type: Literal["teacher"]


class ModelJudge(PromptedJudge, ModelConfig):
    """Any model that vLLM runs and that has a chat template, of any family; with or without images, which it is not shown."""

    type: Literal["model"]


class EndpointJudge(PromptedJudge):
    """A model behind an OpenAI-compatible address."""

    type: Literal["endpoint"]
    attempts: int = ours(
        6,
        "How often a request that fails is sent, with growing pauses; and how often a null verdict is asked for.",
        ge=1,
        le=10,
    )
    base_url: Annotated[str, AfterValidator(web_address)] = Field(
        description="As the openai client takes it: https://HOST/v1."
    )
    model: str = Field(min_length=1, description="Its name there.")
    key_env: EnvironmentVariable | None = ours(
        None, "NAME of the environment variable that holds the key, on every worker."
    )
    max_concurrency: int = ours(32, "Requests in flight at most, over all workers.", ge=1)
    requests_per_minute: int = ours(0, "At most, over all workers, repeated ones included; 0 for no limit.", ge=0)
    tokens_per_minute: int = ours(0, "Of prompts and answers, at most, over all workers; 0 for no limit.", ge=0)
    timeout_seconds: float = ours(60, "For one answer, from sending the question to its last byte.", gt=0)
    prompt_price: float = ours(0, "Of a million prompt tokens, for the estimate of `masters check`.", ge=0)
    answer_price: float = ours(0, "Of a million answer tokens, for the estimate of `masters check`.", ge=0)


Judge = Annotated[RuleJudge | TeacherJudge | ModelJudge | EndpointJudge, Field(discriminator="type")]

HOW_FAST = {
    "key_env",
    "max_concurrency",
    "requests_per_minute",
    "tokens_per_minute",
    "timeout_seconds",
    "prompt_price",
    "answer_price",
}
"""Fields of judges that no verdict depends on."""


class ScoreConfig(Section):
    """Accuracy verdicts (Eq. 6)."""

    judge: Judge = Field(
        TeacherJudge(type="teacher"),
        description="Who judges. (paper: 4.1)",
        json_schema_extra={"paper": "teacher", "where": "4.1"},
    )
    match_first: bool = paper(
        False, "4.1", "Right without a judge: what equals an accepted answer by the rule, without its tolerance."
    )
    cache: Folder | None = ours(
        None, "Folder, s3:// or gs:// address of verdicts that runs share; what a judge said once is not asked again."
    )
    numeric_tolerance: float = ours(
        0.05, "Relative tolerance of the rule judge for answers declared `number`.", ge=0, lt=1
    )
    repetition_min_words: int = ours(
        20, "Responses of so many words or more are wrong where one phrase, over and over, is half of them.", ge=3
    )
