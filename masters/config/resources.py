"""What each stage takes from the Ray cluster. Nothing in here changes a result's meaning, so no digest holds it.

The same names stand in the Helm chart's worker groups; `labels` are Ray's node labels.
"""

from typing import Literal

from pydantic import Field, model_validator

from masters.config.base import Section, ours

Labels = dict[str, str]


class TaskResources(Section):
    """One task or actor."""

    cpus: float = ours(1, "CPUs it takes.", gt=0)
    memory_gib: float = ours(0, "Memory it reserves; 0 reserves none.", ge=0)
    labels: Labels = Field(
        default_factory=dict, description="Node labels it needs, for example ray.io/node-group: generate."
    )


class PoolResources(TaskResources):
    """The actors of a map-like stage; GPUs per engine are a property of the model."""

    min_actors: int = ours(1, "Actors to wait for before work starts.", ge=1)
    max_actors: int = ours(1, "Actors at most.", ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> "PoolResources":
        if self.max_actors < self.min_actors:
            raise ValueError(f"max_actors is {self.max_actors}, below min_actors {self.min_actors}. Raise max_actors.")
        return self


class GangResources(TaskResources):
    """The workers of train; all or nothing."""

    workers: int = ours(1, "Training processes, one per GPU.", ge=1)
    gpus: int = ours(0, "GPUs of a worker: 1, or 0 on CPU.", ge=0, le=1)
    max_failures: int = ours(3, "Restarts from the last checkpoint after a worker died; -1 for any number.", ge=-1)


class EngineResources(Section):
    """Sizes of a vLLM engine that decide speed and memory only."""

    max_num_seqs: int = ours(256, "Sequences that an engine decodes at once.", ge=1)
    gpu_memory_utilization: float = ours(0.9, "Share of the GPU's memory that an engine takes.", gt=0, le=1)
    kv_cache_gib: float = ours(4, "KV cache of an engine on CPU.", gt=0)
    max_num_batched_tokens: int | None = ours(
        None,
        "Tokens that an engine computes in one step; left out: vLLM's own number. Lower ones take less memory.",
        ge=1,
    )
    mm_encoder_tp_mode: Literal["weights", "data"] = ours(
        "weights",
        "How GPUs of an engine share the vision tower: its weights, or whole images (data), each with all weights.",
    )
    overlap: bool = ours(
        False,
        "Start a shard before the last answers of the one before: engines stay full. Questions, seeds and settings stay the "
        "same, answers may differ in a few tokens from run to run.",
    )
    compile: bool = ours(True, "torch.compile and CUDA graphs; tiny models on CPU start faster without.")


class ResourcesConfig(Section):
    """Resources by stage."""

    prepare: TaskResources = Field(default_factory=TaskResources, description="Tasks that read and check rows.")
    mask: TaskResources = Field(default_factory=TaskResources, description="Tasks, one per safetensors shard.")
    generate: PoolResources = Field(default_factory=PoolResources, description="Engines of the teachers, which answer.")
    student: PoolResources | None = Field(
        None, description="Engines of the student, which answer beside the teachers'; left out: as many as in generate."
    )
    score: PoolResources = Field(default_factory=PoolResources, description="Judges.")
    train: GangResources = Field(default_factory=GangResources, description="The gang.")
    evaluate: PoolResources = Field(
        default_factory=PoolResources, description="Engines that are examined, on GPUs so many of each model."
    )
    engine: EngineResources = Field(default_factory=EngineResources, description="Every vLLM engine.")

    @property
    def student_pool(self) -> PoolResources:
        """Of the student's engines in generate."""
        return self.student or self.generate
