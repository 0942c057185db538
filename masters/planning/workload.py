"""What a plan is made of: models, lengths, machines; and the cost of a pool."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from masters.config.placement import Group
from masters.config.run import RunConfig
from masters.families.sizes import ModelSize
from masters.planning.flops import GroupShape
from masters.planning.lengths import Lengths
from masters.planning.places import Place


@dataclass(frozen=True)
class Sizes:
    """Of the models of a recipe."""

    student: ModelSize
    teachers: tuple[ModelSize, ...]
    judge: ModelSize | None = None


@dataclass(frozen=True)
class Questions:
    """Of a benchmark: how many every model is asked, and the longest answer, in tokens."""

    name: str
    rows: int
    longest: int


@dataclass(frozen=True)
class Cost:
    """Of one pool of a stage.

    Attributes:
        rows: that it writes.
        tokens: that its models compute.
        start: seconds until its actors work.
        work: seconds that they work.
        details: more numbers, for whoever wants them; `dollars` are paid to an endpoint.
    """

    stage: str
    pool: str
    place: Place
    rows: int
    tokens: float = 0.0
    flops: float = 0.0
    start: float = 0.0
    work: float = 0.0
    details: Mapping[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """That its actors are there."""
        return self.start + self.work

    @property
    def gpu_hours(self) -> float:
        """Of the GPUs that it holds."""
        return self.place.actors * self.place.gpus * self.seconds / 3600

    @property
    def node_hours(self) -> float:
        """Of the pods that it holds."""
        return self.place.pods * self.seconds / 3600


@dataclass(frozen=True)
class Workload:
    """All that a plan depends on beside the speed of machines.

    Attributes:
        groups: of the values files; None where there are none.
        packed: one row for a group; else one for each response, as others train.
        sure: a GPU that nothing names is large enough for everything, so that what does not fit is certain.
        benchmarks: that evaluate asks beside the split.
    """

    config: RunConfig
    sizes: Sizes
    lengths: Lengths
    groups: Sequence[Group] | None = None
    packed: bool = True
    sure: bool = False
    benchmarks: tuple[Questions, ...] = ()

    @property
    def shape(self) -> GroupShape:
        """Of a group."""
        mix, lengths = self.config.generate.mix, self.lengths
        responses = mix.teacher + mix.student + mix.label
        return GroupShape(lengths.prompt_tokens, lengths.image_tokens, responses, lengths.response_tokens, self.packed)

    @property
    def levels(self) -> int:
        """Of the whole curriculum."""
        return sum(len(teacher.ratio_keys) for teacher in self.config.curriculum)
