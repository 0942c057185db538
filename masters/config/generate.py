"""How responses are sampled."""

from typing import Literal

from pydantic import Field

from masters.config.base import Section, ours, paper


class Mix(Section):
    """Responses to each question by author. The paper's 8 may mean 8 of each author; our default is 4 + 4."""

    teacher: int = paper(4, "4.1 and Table 5c", "Responses by the level's masked teacher.", ge=0, le=64)
    student: int = paper(4, "4.1 and Table 5c", "Responses by the initial student.", ge=0, le=64)
    label: int = paper(0, "Eq. 4", "1 adds the reference answer itself; alone it is naive distillation.", ge=0, le=1)


class GenerateConfig(Section):
    """Pre-generation of responses (Gen-Data of Eq. 5)."""

    mix: Mix = Field(default_factory=Mix, description="Responses to each question, by author.")
    temperature: float = paper(1.0, "4.1", "Sampling temperature.", gt=0, le=2)
    top_p: float = paper(0.9, "4.1", "Nucleus.", gt=0, le=1)
    top_k: int = paper(50, "4.1", "Candidates; -1 for all.", ge=-1)
    repetition_penalty: float = paper(1.05, "4.1", "Repetition penalty.", gt=0, le=2)
    max_tokens: int = ours(512, "Longest response, in tokens.", ge=1)
    coverage: Literal["scheduled", "all"] = ours(
        "scheduled",
        "scheduled: each question by the level that it meets in training; "
        "all: by every level, as the paper did (M times the cost).",
    )
    shard_size: int = ours(256, "Questions in a shard, the unit of work and of commit.", ge=1, le=100_000)
