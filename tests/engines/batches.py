"""Deterministic groups about charts, for engine tests: some with nulls, one without an image."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from masters.data.sources.charts import scene
from masters.models.chat import ChatProcessor
from masters.models.folder import family_of
from masters.training.balance import deal
from masters.training.batches import Collator, MicroBatch
from masters.training.groups import Group, Response

RATIOS = ("0.50", "0.20", "0.00")


class ChartCollator(Collator):
    """Takes images from the charts instead of a run directory."""

    def _image(self, name: str) -> Any:
        return scene(0, int(name)).image


def make_steps(student: Path, count: int, groups: int = 6) -> list[tuple[str, list[Group]]]:
    """(ratio, groups) of each step."""
    chat, rng = ChatProcessor(student, family_of(student)), random.Random(0)
    steps = []
    for number in range(count):
        made = []
        for _ in range(groups):
            index = rng.randrange(1000)
            questions = scene(0, index).questions
            sample = {
                "sample_id": f"charts/{index}", "system": None, "history": [], "question": questions[0].text,
                "image_ids": [str(index)] if rng.random() < 0.8 else [], "prompt_tokens": rng.randint(5, 30),
            }  # fmt: skip
            answers = [rng.choice(rng.choice(questions).answers) for _ in range(rng.randint(2, 4))]
            verdicts = [rng.choice([1, 0, None]) for _ in answers]
            responses = [
                Response("t", i, chat.answer_ids(a), v) for i, (a, v) in enumerate(zip(answers, verdicts, strict=True))
            ]
            made.append(Group(sample, responses))
        steps.append((RATIOS[number * len(RATIOS) // count], made))
    return steps


def rank_batches(
    student: Path, groups: Sequence[Group], rank: int, world: int, most: int, model: Any, most_tokens: int = 0
) -> list[MicroBatch]:
    """What one rank takes through the models in one step: `most` groups at once, and tokens."""
    collate = ChartCollator(None, ChatProcessor(student, family_of(student)), model)
    passes = deal([group.tokens for group in groups], world, most, most_tokens)
    return [collate([groups[place] for place in dealt[rank]]) for dealt in passes]
