"""How responses are judged."""

from typing import Annotated, Literal

from pydantic import Field

from masters.config.base import Section, ours, paper


class RuleJudge(Section):
    """Normalised match with the accepted answers."""

    type: Literal["rule"]


class TeacherJudge(Section):
    """The unmasked teacher of the level, asked with the two prompts of the paper's Appendix D."""

    type: Literal["teacher"]
    max_tokens: int = ours(512, "Longest explanation, in tokens.", ge=16)
    temperature: float = ours(
        0.0, "Of the first attempt; later ones use 0.7, or they would repeat the first.", ge=0, le=2
    )
    attempts: int = ours(3, "How often a null verdict is asked for, each time with another seed.", ge=1, le=10)


Judge = Annotated[RuleJudge | TeacherJudge, Field(discriminator="type")]


class ScoreConfig(Section):
    """Accuracy verdicts (Eq. 6)."""

    judge: Judge = paper(TeacherJudge(type="teacher"), "4.1", "Who judges.")
    numeric_tolerance: float = ours(
        0.05, "Relative tolerance of the rule judge for answers declared `number`.", ge=0, lt=1
    )
    repetition_min_words: int = ours(
        20, "Responses of so many words or more are wrong where one phrase, over and over, is half of them.", ge=3
    )
