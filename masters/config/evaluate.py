"""How models are compared."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from masters.config.base import Folder, Section, ours
from masters.config.prepare import Split

BenchmarkName = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Za-z0-9_]{1,39}$")]
"""Of VLMEvalKit's file, without .tsv; it becomes part of paths. Split names begin with a small letter, these do not."""


class BenchmarkConfig(Section):
    """A benchmark of the paper, from VLMEvalKit's table of it, which the user brings."""

    name: BenchmarkName = Field(
        description="Of VLMEvalKit's file, without .tsv, as MMStar; docs/benchmarks.md lists them."
    )
    path: Folder = Field(description="The file, or the folder that <name>.tsv lies in; also at s3:// or gs://.")
    prompt: Literal["generic", "qwen2_5_vl", "qwen3_vl", "internvl"] = ours(
        "generic", "How it is asked: as VLMEvalKit asks any model, or as it asks a family."
    )
    max_tokens: int | None = ours(
        None, "Longest answer, in tokens; left out: 512 for a letter or a word, 2048 where the way there is told.", ge=1
    )


class EvaluateConfig(Section):
    """Accuracy of baseline student, teacher and trained student, in one harness; greedy, where nothing else is said."""

    split: Split = Field("test", description="Which split of the samples is asked.")
    max_tokens: int = ours(512, "Longest answer, in tokens.", ge=1)
    shard_size: int = ours(512, "Questions in a unit of work.", ge=1, le=100_000)
    teachers: bool = ours(True, "Evaluate the teachers too, for the ladder of the report.")
    temperature: float = ours(0.0, "Of all answers; 0 is greedy.", ge=0, le=2)
    top_p: float = ours(1.0, "Where temperature is above 0: the likeliest tokens of so much probability.", gt=0, le=1)
    top_k: int = ours(-1, "Where temperature is above 0: so many of the likeliest tokens; -1 for all.", ge=-1)
    benchmarks: tuple[BenchmarkConfig, ...] = Field(
        (), description="Benchmarks that are asked beside the split, by all models alike."
    )

    @property
    def parts(self) -> dict[str, Any]:
        """What digests hold of it: of benchmarks nothing, for that their files are read; of decoding what is not greedy."""
        own = self.model_dump(mode="json", exclude={"benchmarks", "temperature", "top_p", "top_k"})
        sampled = {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k}
        return {**own, **(sampled if self.temperature else {})}
