"""What is logged of every step: each term of the objective, its gradient, and what happens to right and wrong responses."""

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch

from masters.algo.terms import Terms
from masters.config.run import STUDENT
from masters.training.batches import MicroBatch

_LOSSES = ("policy", "kl", "distill")


class StepMetrics:
    """Sums over the micro-batches of one rank; `reduce` makes means over all ranks.

    Losses and gradients are of the whole step: their scale already holds the number of ranks.
    """

    def __init__(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self.responses: list[dict[str, Any]] = []

    def add(self, batch: MicroBatch, terms: Terms, step: int) -> None:
        """Add a micro-batch."""
        for name in _LOSSES:
            self._sums[f"loss_{name}"] += float(getattr(terms, name))
        for name, squared in terms.gradient_norms.items():
            self._sums[f"squared_gradient_{name}"] += float(squared)
        columns = {
            name: getattr(terms, f"{name}_J").tolist()
            for name in ("divergence", "kl", "log_probability", "distill_reward", "advantage")
        }
        for place, (sample_id, response) in enumerate(batch.keys):
            row = {name: values[place] for name, values in columns.items()}
            self.responses.append(
                {
                    "step": step,
                    "sample_id": sample_id,
                    "author": response.author,
                    "index": response.index,
                    **row,
                }
            )
            self._count("divergence", row["divergence"])
            self._count("kl_nats", row["kl"])
            self._count(f"divergence_{STUDENT if response.author == STUDENT else 'teacher'}", row["divergence"])
            kind = {1: "right", 0: "wrong", None: "null"}[response.verdict]
            self._count(f"log_probability_{kind}", row["log_probability"])
            if response.verdict is not None:
                self._count("distill_reward", row["distill_reward"])
                self._count("accuracy_reward", float(response.verdict))

    def drop(self, responses: int) -> None:
        """Count responses that are not trained on, since they hold an id outside the vocabulary."""
        self._sums["count dropped"] += responses

    def add_sft(self, loss: float, log_probability_J: torch.Tensor) -> None:
        """Add a micro-batch of the control objective."""
        self._sums["loss_sft"] += loss
        for value in log_probability_J.tolist():
            self._count("log_probability_right", value)

    def reduce(
        self, sum_over_ranks: Callable[[dict[str, float]], dict[str, float]], averaged_over: int
    ) -> dict[str, float]:
        """Metrics of the step over all ranks.

        Args:
            sum_over_ranks: adds equal keys over the ranks.
            averaged_over: ranks, over which DeepSpeed averages gradients.
        """
        sums = sum_over_ranks(dict(self._sums))
        result: dict[str, float] = {}
        for name, value in sums.items():
            if name.startswith("loss_"):
                result[name] = value / averaged_over
            elif name.startswith("squared_gradient_"):
                result[name.replace("squared_gradient", "gradient_norm")] = math.sqrt(value) / averaged_over
            elif name.startswith("sum "):
                result[name[4:]] = value / sums[f"count {name[4:]}"]
            else:
                result[name.replace("count ", "n_")] = value
        return result

    def _count(self, name: str, value: float) -> None:
        self._sums[f"sum {name}"] += value
        self._sums[f"count {name}"] += 1
