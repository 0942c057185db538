"""The three models of a worker, and one step of learning with them."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from masters.algo.fused import masters_objective, sft_objective
from masters.algo.reward import TIE, TIE_BF16
from masters.algo.terms import Divergence, Head, Objective
from masters.config.run import RunConfig
from masters.config.train import DIVERGENCE_WEIGHTS, TrainConfig
from masters.data.storage import Storage
from masters.engines.sharding import node_groups
from masters.engines.zero3 import Zero3Frozen, Zero3Student, Zero3Teacher
from masters.models.chat import ChatProcessor, common_vocabulary
from masters.models.folder import family_of, resolve
from masters.models.joining import join, join_media
from masters.models.thresholds import ThresholdsFile
from masters.training.batches import MicroBatch
from masters.training.clock import Clock
from masters.training.curriculum import Step
from masters.training.metrics import StepMetrics


@dataclass
class Trio:
    """Student, the masked teacher of the level, and the reference (the initial student).

    Without a teacher the student is trained on the responses alone: the control `sft`. Norms of each term's gradient are
    found at every `metrics_every`-th step.
    """

    student: Zero3Student
    teacher: Zero3Teacher | None
    reference: Zero3Frozen | None
    objective: Objective
    metrics_every: int = 1
    clock: Clock = field(default_factory=Clock)

    def learn(
        self, batches: Sequence[MicroBatch], groups: float, rate: float, metrics: StepMetrics, step: int
    ) -> float:
        """One optimiser step; the norm of its gradient before clipping.

        All ranks go through all models as often, whether they have responses or not: teacher and reference once, with all
        micro-batches, then the student with each of them.

        Args:
            batches: on the models' device.
            groups: the denominator, as in `masters_objective`.
            rate: the learning rate.
            metrics: takes what was found.
            step: number of the step, for the metrics.
        """
        packed, media = join([batch.packed for batch in batches]), join_media([batch.media for batch in batches])
        engines = [engine for engine in (self.teacher, self.reference) if engine is not None]
        counts = [len(batch.packed.state_T) for batch in batches]
        norm = None
        with ExitStack() as gathered:
            with self.clock.part("frozen"):
                answers = [gathered.enter_context(engine.asked(packed, media)) for engine in engines]
            states = [answer.hidden_TH.split(counts) for answer in answers]
            for place, batch in enumerate(batches):
                heads = [Head(own[place], answer.weight_VH) for own, answer in zip(states, answers, strict=True)]
                use = self.clock.part("objective")(partial(self._compute, batch, heads, groups, metrics, step))
                with self.clock.part("student"):
                    loss = self.student.forward(batch.packed, batch.media, use)
                    self.student.backward(loss, last=batch is batches[-1])
                with self.clock.part("optimiser"):
                    norm = self.student.step(rate)
        assert norm is not None
        return norm

    def _compute(
        self,
        batch: MicroBatch,
        heads: Sequence[Head],
        groups: float,
        metrics: StepMetrics,
        step: int,
        hidden_TH: Tensor,
        weight_VH: Tensor,
    ) -> Tensor:
        student = Head(hidden_TH, weight_VH)
        if batch.responses is None:
            return 0.0 * (student.hidden_TH.sum() + student.weight_VH.sum())
        if self.teacher is None:
            budget = self.objective.budget
            loss, log_probability_J = sft_objective(student, batch.responses, groups=groups, budget=budget)
            metrics.add_sft(loss.item(), log_probability_J)
            return loss
        reference = heads[1] if len(heads) > 1 else None
        norms = step % self.metrics_every == 0
        loss, terms = masters_objective(
            student, heads[0], reference, batch.responses, self.objective, groups=groups, norms=norms
        )
        metrics.add(batch, terms, step)
        return loss


class Cast:
    """Brings the trio of a recipe onto the stage, and changes the teacher when the curriculum says so.

    Args:
        config: the recipe.
        run: the run directory.
        thresholds: name of each teacher's thresholds file in it.
        node: number of this worker's node.

    Attributes:
        vocabulary: how many token ids the student shares with each teacher of the curriculum.
    """

    def __init__(self, config: RunConfig, run: Storage, thresholds: Sequence[str], node: int = 0):
        self._config, self._run, self._thresholds = config, run, thresholds
        self._groups = node_groups(node) if config.train.teacher_sharding == "node" else None
        self._teacher_index = -1
        train = config.train
        self.alone = train.objective == "sft"
        folder = resolve(config.student.path, config.hub_token_env, mirror=config.hub_mirror)
        self.chat = ChatProcessor(folder, family_of(folder), config.images)
        self.vocabulary = [self._common_vocabulary(index) for index in range(len(config.curriculum))]
        student = Zero3Student(
            folder,
            train.precision,
            gradient_clip=train.gradient_clip,
            make_optimizer=lambda groups: _adamw(groups, train),
            gradient_checkpointing=train.gradient_checkpointing,
            lr_factors={"tower": train.tower_lr_factor, "projector": train.projector_lr_factor},
            offload_optimizer=train.offload_optimizer,
        )
        asked = train.kl_weight > 0 and not self.alone
        reference = Zero3Frozen(folder, train.precision, self._groups) if asked else None
        objective = objective_of(train, self.vocabulary[0])
        self.trio = Trio(student, None, reference, objective, train.metrics_every)

    def _common_vocabulary(self, teacher: int) -> int:
        """The student's own without a teacher."""
        if self.alone:
            return common_vocabulary(self.chat, self.chat)
        folder = self._resolve(teacher, weights=False)
        return common_vocabulary(self.chat, ChatProcessor(folder, family_of(folder)))

    def _resolve(self, teacher: int, weights: bool = True) -> Path:
        config = self._config
        return resolve(config.curriculum[teacher].path, config.hub_token_env, weights=weights, mirror=config.hub_mirror)

    def take_level(self, step: Step) -> None:
        """Load the step's teacher, if it is another one, and mask it at the step's ratio."""
        if self.alone:
            return
        if step.teacher != self._teacher_index:
            if self.trio.teacher is not None:
                self.trio.teacher.close()
                self.trio.teacher = None  # two may not fit
            folder = self._resolve(step.teacher)
            thresholds = ThresholdsFile.from_json(self._run.read_json(self._thresholds[step.teacher]))
            train = self._config.train
            self.trio.teacher = Zero3Teacher(
                folder, train.precision, thresholds, self._groups, offload=train.offload_teacher
            )
            self.trio.objective = replace(self.trio.objective, vocabulary=self.vocabulary[step.teacher])
            self._teacher_index = step.teacher
        assert self.trio.teacher is not None
        if self.trio.teacher.ratio != step.ratio:
            self.trio.teacher.set_ratio(step.ratio)


def objective_of(train: TrainConfig, vocabulary: int) -> Objective:
    """The recipe's objective; what counts as tied depends on the precision of its forwards."""
    tie = TIE_BF16 if train.precision == "bf16" else TIE
    weight = train.divergence_weight or DIVERGENCE_WEIGHTS.get(train.divergence, 0.5)
    return Objective(
        train.policy_weight,
        train.kl_weight,
        train.kl,
        train.clamp_advantages,
        vocabulary,
        tie,
        Divergence(train.divergence, weight),
        int(train.objective_gib * 2**30),
        train.reward,
    )


def _adamw(groups: list[dict[str, Any]], config: TrainConfig) -> torch.optim.Optimizer:
    parameters = [{**group, "weight_decay": config.weight_decay if group["decay"] else 0.0} for group in groups]
    return torch.optim.AdamW(parameters, lr=config.lr, betas=config.betas)
