"""How the student is trained."""

from importlib.util import find_spec
from typing import Annotated, Literal

from pydantic import Field

from masters.config.base import LocalFolder, Section, ours, paper

DIVERGENCE_WEIGHTS = {"jsd": 0.5, "skew_kl": 0.1, "skew_reverse_kl": 0.1}
"""What `divergence_weight` is where it is left out: that of the paper, and of DistiLLM."""

Beta = Annotated[float, Field(ge=0, lt=1)]


class TrainConfig(Section):
    """Offline GRPO and Jensen-Shannon distillation (Eq. 8-11) under DeepSpeed ZeRO-3."""

    objective: Literal["masters", "sft"] = paper(
        "masters", "Eq. 8", "`sft` is cross-entropy on the responses: a control."
    )
    policy_weight: float = paper(1.0, "Eq. 8", "Weight of the policy term; 0 trains without rewards.", ge=0)
    reward: Literal["both", "accuracy", "distill", "unnormalised"] = paper(
        "both",
        "Eq. 10 and Table 5e",
        "For what: right answers, answers that transfer easily, or both; unnormalised: both, D as it is.",
    )
    kl_weight: float = paper(0.1, "Appendix B", "beta; 0 needs no reference model.", ge=0)
    kl: Literal["exact", "k3"] = ours("exact", "KL to the initial student: over the vocabulary, or the k3 estimate.")
    divergence: Literal["jsd", "forward_kl", "reverse_kl", "skew_kl", "skew_reverse_kl"] = paper(
        "jsd", "Eq. 4, 5", "Between student and teacher, in the loss and in the reward; the skewed ones are DistiLLM's."
    )
    divergence_weight: float | None = ours(
        None,
        "The teacher's share of jsd's mixture, 0.5 if left out; alpha of the skewed ones, 0.1 if left out.",
        gt=0,
        lt=1,
    )
    clamp_advantages: bool = paper(False, "Eq. 10", "Replace negative advantages by 0: no response is pushed down.")
    lr: float = paper(1e-6, "4.1", "Peak learning rate of AdamW.", gt=0)
    lr_schedule: Literal["constant", "linear"] = paper("constant", "4.1", "`linear` decays to 5 % of the peak.")
    warmup_steps: int = ours(0, "Steps of linear warm-up.", ge=0)
    weight_decay: float = ours(0.0, "Of AdamW.", ge=0)
    betas: tuple[Beta, Beta] = ours((0.9, 0.95), "Of AdamW.")
    gradient_clip: float = ours(1.0, "Largest norm of the gradient.", gt=0)
    groups_per_step: int = ours(
        64,
        "Questions in an optimiser step, over all workers; the last step of a level may have fewer, at the same learning rate.",
        ge=1,
    )
    groups_per_micro_batch: int = ours(
        1, "Questions that one worker takes through the models at once, at most. They are dealt by length.", ge=1
    )
    tokens_per_micro_batch: int = ours(
        0,
        "Likewise tokens of prompts, images expanded, and responses; 0 for any number. A longer question goes alone.",
        ge=0,
    )
    precision: Literal["bf16", "fp32"] = paper(
        "bf16", "4.1: DeepSpeed", "Of weights and activations; the optimiser keeps fp32."
    )
    gradient_checkpointing: bool = ours(
        True, "Recompute the student's activations in backward: far less memory, a third more time. Same results."
    )
    tower_lr_factor: float = ours(1.0, "Of the learning rate of the image tower; 0 freezes it.", ge=0)
    projector_lr_factor: float = ours(1.0, "The same of the projector behind the tower.", ge=0)
    teacher_sharding: Literal["world", "node"] = ours(
        "world",
        "Split teacher and reference over all workers, or over those of each node: more memory, no traffic between nodes.",
    )
    offload_teacher: bool = ours(False, "Keep the teacher's weights in CPU memory; slower.")
    offload_optimizer: bool = ours(False, "Keep the optimiser's states in CPU memory and step there; slower.")
    objective_gib: float = ours(
        1.0,
        "Memory for probabilities over the vocabulary. Groups that fit are computed at once; else twice, in pieces.",
        gt=0,
    )
    trackers: tuple[Literal["wandb", "mlflow"], ...] = ours(
        (), "Services that are told every step, beside metrics.jsonl and the TensorBoard files; yours to install."
    )
    metrics_every: int = ours(10, "Steps between those that log the norm of each term's gradient.", ge=1)
    checkpoint_every: int = ours(100, "Steps between checkpoints.", ge=1)
    checkpoint_minutes: float = ours(30.0, "Likewise minutes; whichever comes first.", gt=0)
    keep_checkpoints: int = ours(2, "How many checkpoints are kept, the last ones.", ge=1)
    scratch: LocalFolder | None = ours(
        None,
        "Folder of each node's own disk where a checkpoint lies until it is uploaded; the system's temporary folder if left "
        "out.",
    )
    students_by_level: bool = ours(
        False,
        "Write the student at the end of each level, too (a copy of its weights for each), and evaluate all of them.",
    )
    keep: Literal["last", "best"] = ours(
        "last",
        "Which student is the run's: the last, or of those by level the one that is best on the validation split.",
    )


def check_trackers(config: TrainConfig) -> None:
    """Raise ValueError for a tracker whose package is not installed on this machine."""
    for name in config.trackers:
        if find_spec(name) is None:
            raise ValueError(
                f"train.trackers = {name}: is not installed here, and no part of Masters. "
                f"`.venv/bin/uv pip install {name}`, on a cluster in the image; or leave it out."
            )
