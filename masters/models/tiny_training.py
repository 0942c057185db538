"""Supervised training of a tiny model on fresh charts: what `masters tiny train` runs.

Several questions about an image share its prompt in one row, as branches that do not see each other. The learning rate is
constant for half of the steps and then falls to 5 %: a baseline that has not finished its own decay makes any later training
look like a gain.
"""

import functools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from masters.data.sources.charts import Question, Scene, scenes
from masters.models.chat import ChatProcessor
from masters.models.checkpoint import attach
from masters.models.folder import family_of
from masters.models.packing import Branch, Row, hidden_states, pack_rows, prompt_positions
from masters.models.tiny import SIZES, build_model, build_tokenizer, save

Tokenize = Callable[[str], list[int]]
STEPS = {"teacher": 3900, "student": 1500}
_TEST_SEED, _TEST_IMAGES, _TEST_QUESTIONS, _LONGEST = 999, 200, 3, 16


@dataclass(frozen=True)
class TinyRecipe:
    """Settings found to be learnable: 10 images x 6 questions a step, AdamW, weight decay on matrices only."""

    steps: int
    seed: int
    lr: float = 1.5e-3
    images: int = 10
    questions: int = 6
    warmup: int = 50
    weight_decay: float = 0.05


def train(model: Any, chat: ChatProcessor, recipe: TinyRecipe, progress: Callable[[int, float], None]) -> None:
    """Train in place on the train split of the stream of scenes that the seed names, every image new.

    Args:
        model: fp32.
        chat: its processor.
        recipe: steps and settings.
        progress: called after every step with its number from 1 and the loss.
    """
    rng = random.Random(recipe.seed)
    tokenize = functools.cache(lambda text: chat.tokenizer(text, add_special_tokens=False).input_ids)
    stream = (drawn for _, drawn in scenes(1000 + recipe.seed, "train"))
    optimise(
        model,
        recipe,
        lambda: _loss(model, chat, list(islice(stream, recipe.images)), recipe.questions, rng, tokenize),
        progress,
    )


def optimise(
    model: Any, recipe: TinyRecipe, loss_of_a_batch: Callable[[], Tensor], progress: Callable[[int, float], None]
) -> None:
    """Train in place on batches that `loss_of_a_batch` draws, as many as the recipe has steps."""
    optimizer = _optimizer(model, recipe)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _factor(step, recipe))
    attach(model)
    model.train()
    for step in range(1, recipe.steps + 1):
        loss = loss_of_a_batch()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        progress(step, loss.item())
    model.eval()


def train_folder(size: str, folder: Path, recipe: TinyRecipe, progress: Callable[[int, float], None]) -> dict[str, Any]:
    """Train a model from scratch, write its folder, and measure what was written.

    Returns what stands beside the model: parameters and greedy accuracy on test images that no training draws.
    """
    torch.set_num_threads(1)  # at these sizes more threads are slower
    tokenizer = build_tokenizer()
    model = build_model(SIZES[size], tokenizer, recipe.seed)
    save(model, tokenizer, folder, torch.float32)
    chat = ChatProcessor(folder, family_of(folder))
    train(model, chat, recipe, progress)
    save(model, tokenizer, folder)
    parameters = sum(weight.numel() for weight in model.parameters())
    return {"parameters": parameters, **measure(model.float(), chat)}


@torch.inference_mode()
def measure(model: Any, chat: ChatProcessor) -> dict[str, Any]:
    """Greedy accuracy, exact match with an accepted phrasing, on the test split of a seed of its own."""
    right: dict[str, list[bool]] = {}
    chat.tokenizer.padding_side = "left"
    for _, drawn in islice(scenes(_TEST_SEED, "test"), _TEST_IMAGES):
        asked = drawn.questions[:_TEST_QUESTIONS]
        chats = [[{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": q.text}]}] for q in asked]
        inputs = chat.processor(
            text=[chat.prompt(c) for c in chats],
            images=[drawn.image] * len(asked),
            padding=True,
            return_tensors="pt",
        )
        output = model.generate(**inputs, max_new_tokens=_LONGEST, do_sample=False)
        texts = chat.tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        for question, text in zip(asked, texts, strict=True):
            right.setdefault(question.type, []).append(text in question.answers)
    every = [value for values in right.values() for value in values]
    by_type = {kind: round(sum(values) / len(values), 3) for kind, values in sorted(right.items())}
    return {"questions": len(every), "accuracy": round(sum(every) / len(every), 4), "by_type": by_type}


def _optimizer(model: Any, recipe: TinyRecipe) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, recipe.lr, betas=(0.9, 0.98), fused=True)


def _factor(step: int, recipe: TinyRecipe) -> float:
    """Linear warm-up, constant to the middle, then a cosine down to 5 %."""
    done = step / recipe.steps
    decay = 1.0 if done < 0.5 else max(0.05, math.cos((done - 0.5) * math.pi))
    return min(1.0, (step + 1) / recipe.warmup) * decay


def _loss(
    model: Any,
    chat: ChatProcessor,
    drawn: Sequence[Scene],
    questions: int,
    rng: random.Random,
    tokenize: Tokenize,
) -> Tensor:
    """Cross-entropy on the answers of `questions` random questions to each image, a random phrasing each."""
    header, opening = _split_prompt(chat)
    encoded = chat.processor(text=[header] * len(drawn), images=[scene.image for scene in drawn], return_tensors="pt")
    media = {key: encoded[key] for key in ("pixel_values", "image_grid_thw")}
    prefix = encoded["input_ids"][0]
    positions = prompt_positions(model, prefix, {"image_grid_thw": media["image_grid_thw"][:1]})
    rows = []
    for scene in drawn:
        asked = rng.sample(scene.questions, min(questions, len(scene.questions)))
        rows.append(
            Row(
                prefix,
                positions,
                [_branch(question, opening, chat.end_of_turn, rng, tokenize) for question in asked],
            )
        )
    packed = pack_rows(rows)
    logits = model.lm_head(hidden_states(model, packed, media))
    return F.cross_entropy(logits, packed.target_T)


def _split_prompt(chat: ChatProcessor) -> tuple[str, str]:
    """The prompt of a question about one image, cut where the question goes."""
    mark = "QUESTION"
    prompt = chat.prompt([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": mark}]}])
    header, _, opening = prompt.partition(mark)
    return header, opening


def _branch(question: Question, opening: str, end_of_turn: int, rng: random.Random, tokenize: Tokenize) -> Branch:
    asked, answer = tokenize(question.text + opening), tokenize(rng.choice(question.answers))
    return Branch([*asked, *answer, end_of_turn], first_target=len(asked))
