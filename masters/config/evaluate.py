"""How models are compared."""

from pydantic import Field

from masters.config.base import Section, ours
from masters.config.prepare import Split


class EvaluateConfig(Section):
    """Greedy accuracy of baseline student, teacher and trained student, in one harness."""

    split: Split = Field("test", description="Which split of the samples is asked.")
    max_tokens: int = ours(512, "Longest answer, in tokens.", ge=1)
    shard_size: int = ours(512, "Questions in a unit of work.", ge=1, le=100_000)
    teachers: bool = ours(True, "Evaluate the teachers too, for the ladder of the report.")
