"""What is logged of every step: each term of the objective, its gradient, what happens to right and wrong responses, and what
the step cost. docs/metrics.md describes every number.
"""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from masters.algo.terms import Terms
from masters.config.run import STUDENT
from masters.training.batches import MicroBatch
from masters.training.clock import PARTS

_LOSSES = ("policy", "kl", "distill")


@dataclass
class Found:
    """What one rank found in a step; can be pickled.

    Attributes:
        sums: are added over the ranks.
        peaks: of which the largest counts.
        seconds: by part, and of the whole step.
        tokens: that the student computed, of each pass.
    """

    sums: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    peaks: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    tokens: list[int] = field(default_factory=list)


class StepMetrics:
    """Sums over the micro-batches of one rank; `reduce` makes means over all ranks.

    Losses and gradients are of the whole step: their scale already holds the number of ranks.
    """

    def __init__(self) -> None:
        self._found = Found()
        self._sums = self._found.sums
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

    def count(self, batch: MicroBatch) -> None:
        """Count what a pass through the models computes, blank rows included, and what it is for.

        `dropped` responses are not trained on, since they hold an id outside the vocabulary.
        """
        tokens = batch.packed.input_ids.numel()
        self._found.tokens.append(tokens)
        self._sums["count tokens"] += tokens
        self._sums["count trained_tokens"] += 0 if batch.responses is None else batch.responses.target_T.numel()
        self._sums["count responses"] += len(batch.keys)
        self._sums["count dropped"] += batch.dropped

    def cost(self, seconds: Mapping[str, float], peak_memory_gib: float) -> None:
        """What the step cost this rank: a lap of the clock, and memory."""
        self._found.seconds = dict(seconds)
        self._found.peaks["peak_memory_gib"] = peak_memory_gib

    def add_sft(self, loss: float, log_probability_J: torch.Tensor) -> None:
        """Add a micro-batch of the control objective."""
        self._sums["loss_sft"] += loss
        for value in log_probability_J.tolist():
            self._count("log_probability_right", value)

    def reduce(self, gather: Callable[[Found], Sequence[Found]]) -> dict[str, float]:
        """Metrics of the step over all ranks.

        Args:
            gather: gives every rank what all of them found, in order.
        """
        everyone = gather(self._found)
        sums: Counter[str] = Counter()
        for found in everyone:
            sums.update(found.sums)
        result: dict[str, float] = {}
        for name, value in sums.items():
            if name.startswith("loss_"):
                result[name] = value / len(everyone)  # DeepSpeed averages gradients over the ranks
            elif name.startswith("squared_gradient_"):
                result[name.replace("squared_gradient", "gradient_norm")] = math.sqrt(value) / len(everyone)
            elif name.startswith("sum "):
                result[name[4:]] = value / sums[f"count {name[4:]}"]
            else:
                result[name.replace("count ", "n_")] = value
        return {**dict(sorted(result.items())), **_shares(sums), **_costs(everyone)}

    def _count(self, name: str, value: float) -> None:
        self._sums[f"sum {name}"] += value
        self._sums[f"count {name}"] += 1


def _shares(sums: Mapping[str, float]) -> dict[str, float]:
    """Of all tokens that the student computes those of responses that train it, and of all responses the dropped ones."""
    responses = sums["count responses"] + sums["count dropped"]
    return {
        "useful_share": sums["count trained_tokens"] / sums["count tokens"],
        "dropped_share": sums["count dropped"] / responses if responses else 0.0,
    }


def _costs(everyone: Sequence[Found]) -> dict[str, float]:
    """Times in seconds, tokens/s and memory: what `masters.data.metrics.MEASURED` names.

    Ranks wait for each other inside ZeRO-3's collectives, so every rank's clock shows the time of the slowest, in whatever part
    it was: no clock tells waiting from computing, and a barrier that did would itself cost time. Time goes with tokens, and
    every rank knows what the others compute: a rank with 60 % of the longest one's tokens waits for 40 % of the time. Frozen
    models take a step's micro-batches one behind the other without an end in between, the student one pass after the other.
    """
    seconds = {part: sum(found.seconds[part] for found in everyone) / len(everyone) for part in PARTS}
    seconds["data"] = max(found.seconds["data"] for found in everyone)  # all wait for the last one's batch
    seconds["step"] = max(found.seconds["step"] for found in everyone)
    learning = seconds["student"] + seconds["objective"]
    seconds["ranks"] = seconds["frozen"] * _waiting([[sum(found.tokens)] for found in everyone])
    seconds["ranks"] += learning * _waiting([found.tokens for found in everyone])
    peaks = {name: max(found.peaks[name] for found in everyone) for name in everyone[0].peaks}
    tokens = sum(sum(found.tokens) for found in everyone)
    return {
        **{f"time_{part}": value for part, value in seconds.items()},
        "time_unix": time.time(),
        "tokens_per_second": tokens / seconds["step"],
        **peaks,
    }


def _waiting(tokens: Sequence[Sequence[int]]) -> float:
    """Share of the time in which ranks wait, on average, from the tokens [rank][pass]: in [0, 1)."""
    longest = sum(max(of_pass) for of_pass in zip(*tokens, strict=True))
    return 1 - sum(map(sum, tokens)) / (longest * len(tokens))
