"""Ids that no tokenizer has: the tiny student's head has 448 rows, its tokenizer 424 ids, and training must not teach it the rest.

The shipped student is trained in one plain process, without ZeRO-3 and Ray, by recipes/tiny.yaml but for fewer groups a step
and a teacher that stays unmasked: fresh charts, two answers of the teacher and two of the student to each. Then ids are drawn
from the student's distribution over its whole head, none left out. The contexts are answers that it samples that way itself,
token by token, to charts of the test split, and many ids are drawn at each token: one each would need 200,000 answers for a
million ids. There are ten times as many draws as the million that the promise is about, so that its noise decides nothing;
what is to be expected of them has none.

Measured, ids outside of 10,000,000 (to be expected): before 54 (44), after masters 16 (17), after sft 13 (13); where the
objective sees 424 rows only, after masters 64 (65), after sft 71 (75). Some 17 CPU-seconds a training, a minute for the data.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from masters.algo.fused import masters_objective, sft_objective
from masters.algo.terms import Head, Responses
from masters.config.load import load_recipe
from masters.data.sources.charts import Question, Scene, scenes
from masters.families.qwen2_5_vl import QWEN2_5_VL
from masters.models.chat import ChatProcessor, common_vocabulary
from masters.models.checkpoint import load_model
from masters.models.packing import Branch, Packed, Row, hidden_states, pack_rows, prompt_positions
from masters.training.curriculum import learning_rate
from masters.training.trio import objective_of

RECIPE = load_recipe(Path(__file__).parents[3] / "recipes" / "tiny.yaml")
STEPS, GROUPS, ANSWERS, ROUND = 1000, 8, 2, 25
DRAWN, CONTEXTS = 10_000_000, 10_000

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@dataclass(frozen=True)
class Batch:
    """Packed answers to some charts, and what the frozen models make of them."""

    packed: Packed
    media: dict[str, Tensor]
    responses: Responses
    frozen: list[Head]


@dataclass(frozen=True)
class Lesson:
    """What the trainings share: models as they ship, and data."""

    student: Any
    chat: ChatProcessor
    vocabulary: int
    batches: list[Batch]


def asked(stream: Iterator[tuple[int, Scene]], number: int) -> list[tuple[Scene, Question]]:
    return [(scene, scene.questions[0]) for _, scene in islice(stream, number)]


def chat_of(question: Question) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question.text}]}]


@torch.inference_mode()
def answers(
    model: Any, chat: ChatProcessor, questions: list[tuple[Scene, Question]], **sampling: Any
) -> list[list[int]]:
    """ANSWERS sampled answers to each question, one behind the other, up to the end of the turn."""
    inputs = chat.processor(
        text=[chat.prompt(chat_of(question)) for _, question in questions],
        images=[scene.image for scene, _ in questions],
        padding=True,
        padding_side="left",
        return_tensors="pt",
    )
    longest = RECIPE.generate.max_tokens
    output = model.generate(**inputs, do_sample=True, max_new_tokens=longest, num_return_sequences=ANSWERS, **sampling)[
        :, inputs["input_ids"].shape[1] :
    ].tolist()
    return [ids[: ids.index(chat.end_of_turn) + 1] if chat.end_of_turn in ids else ids for ids in output]


def packed_answers(
    model: Any, chat: ChatProcessor, questions: list[tuple[Scene, Question]], found: list[list[list[int]]]
) -> tuple[Packed, dict[str, Tensor]]:
    rows, media = [], []
    for (scene, question), of_question in zip(questions, found, strict=True):
        prompt = chat.encode(chat_of(question), [scene.image])
        positions = prompt_positions(model, prompt.input_ids, prompt.media)
        rows.append(Row(prompt.input_ids, positions, [Branch(ids) for ids in of_question]))
        media.append(prompt.media)
    return pack_rows(rows), {name: torch.cat([each[name] for each in media]) for name in media[0]}


def batch_of(
    models: list[Any], chat: ChatProcessor, vocabulary: int, questions: list[tuple[Scene, Question]], found: Any
) -> Batch:
    """Without answers that hold an id outside, as `GroupReader` reads them; `models` are teacher and reference."""
    kept = [[ids for ids in of_question if max(ids) < vocabulary] for of_question in found]
    packed, media = packed_answers(models[1], chat, questions, kept)
    texts = [chat.tokenizer.batch_decode(of_question, skip_special_tokens=True) for of_question in kept]
    right = [
        float(text in question.answers) for (_, question), said in zip(questions, texts, strict=True) for text in said
    ]
    group_J = torch.repeat_interleave(torch.arange(len(kept)), torch.tensor([len(said) for said in texts]))
    responses = Responses(packed.target_T, packed.branch_T, group_J, torch.tensor(right))
    with torch.no_grad():
        frozen = [Head(hidden_states(model, packed, media), model.lm_head.weight) for model in models]
    return Batch(packed, media, responses, frozen)


@pytest.fixture(scope="module")
def lesson(trained):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    chats = [ChatProcessor(folder, QWEN2_5_VL) for folder in trained]
    chat, vocabulary = chats[0], common_vocabulary(*chats)
    student, teacher = (load_model(folder, torch.float32).eval() for folder in trained)
    generate = RECIPE.generate
    sampling = {
        "temperature": generate.temperature,
        "top_p": generate.top_p,
        "top_k": generate.top_k,
        "repetition_penalty": generate.repetition_penalty,
    }
    stream, batches = scenes(2024, "train"), []
    while len(batches) < STEPS:
        questions = asked(stream, ROUND * GROUPS)
        said = [answers(model, chat, questions, **sampling) for model in (teacher, student)]
        for start in range(0, len(questions), GROUPS):
            places = range(start, start + GROUPS)
            found = [[ids for of in said for ids in of[ANSWERS * at : ANSWERS * (at + 1)]] for at in places]
            batches.append(batch_of([teacher, student], chat, vocabulary, questions[start : start + GROUPS], found))
    return Lesson(student, chat, vocabulary, batches)


def taught(lesson: Lesson, way: str, rows: int) -> Any:
    """The student after STEPS steps whose objective sees `rows` rows of its head."""
    train = RECIPE.train
    student, objective = copy.deepcopy(lesson.student).train(), objective_of(train, lesson.vocabulary)
    optimizer = torch.optim.AdamW(student.parameters(), train.lr, train.betas, weight_decay=train.weight_decay)
    for step, batch in enumerate(lesson.batches):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(train, step, STEPS)
        head = Head(hidden_states(student, batch.packed, batch.media), student.lm_head.weight[:rows])
        if way == "sft":
            loss, _ = sft_objective(head, batch.responses, groups=GROUPS)
        else:
            loss, _ = masters_objective(head, *batch.frozen, batch.responses, objective, groups=GROUPS)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), train.gradient_clip)
        optimizer.step()
        optimizer.zero_grad()
    return student.eval()


@torch.inference_mode()
def outside(lesson: Lesson, student: Any) -> tuple[int, float]:
    """How many of DRAWN ids from the whole head are outside the vocabulary, and how many are to be expected."""
    torch.manual_seed(1)
    stream, states = scenes(999, "test"), []
    while sum(map(len, states)) < CONTEXTS:
        questions = asked(stream, 400)
        said = answers(student, lesson.chat, questions, temperature=1.0, top_p=1.0, top_k=0)
        found = [said[ANSWERS * at : ANSWERS * (at + 1)] for at in range(len(questions))]
        states.append(hidden_states(student, *packed_answers(student, lesson.chat, questions, found)))
    p_TV = (torch.cat(states)[:CONTEXTS] @ student.lm_head.weight.T).double().softmax(-1)
    ids = torch.multinomial(p_TV, DRAWN // CONTEXTS, replacement=True)
    return int((ids >= lesson.vocabulary).sum()), float(p_TV[:, lesson.vocabulary :].sum()) * DRAWN / CONTEXTS


@pytest.fixture(scope="module")
def before(lesson):
    return outside(lesson, lesson.student)


@pytest.mark.parametrize("way", ["masters", "sft"])
def test_training_leaves_no_more_ids_outside_than_there_were(lesson, before, way):
    count, expected = outside(lesson, taught(lesson, way, len(lesson.student.lm_head.weight)))
    assert count <= before[0]
    assert expected <= before[1]


@pytest.mark.parametrize("way", ["masters", "sft"])
def test_they_grow_where_the_student_is_normalised_over_the_common_vocabulary_alone(lesson, before, way):
    """The control: rows that no loss sees drift."""
    count, expected = outside(lesson, taught(lesson, way, lesson.vocabulary))
    assert count > before[0]
    assert expected > 1.2 * before[1]
