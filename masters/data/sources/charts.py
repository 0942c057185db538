"""Deterministic small charts and shapes with questions: data that a model of a million weights learns in minutes.

Scene `index` of a seed is always the same image and questions. The split of an image follows from a hash of its pixels, so
no image is in two splits, whatever the seeds.
"""

import hashlib
import io
import random
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image, ImageDraw

from masters.data.rows import RawRow

SIZE = 56
SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 220),
    "yellow": (235, 205, 40),
    "purple": (150, 60, 180),
    "orange": (245, 140, 30),
}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
CORNERS = ("top left", "top right", "bottom left", "bottom right")
QUESTION_TYPES = (
    "colour",
    "shape",
    "at",
    "count",
    "count_colour",
    "exist",
    "tallest",
    "shortest",
    "value",
    "bars",
    "compare",
)
_TALLEST = 6
_SPLITS = {**dict.fromkeys(range(7), "train"), 7: "validation", 8: "test", 9: "test"}


@dataclass(frozen=True)
class Question:
    """A question with every phrasing that counts as right; all say the same."""

    type: str
    text: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Scene:
    """A drawn image, its questions in random order, and the split that its pixels belong to."""

    image: Image.Image
    questions: tuple[Question, ...]
    split: str


def scene(seed: int, index: int) -> Scene:
    """The scene at `index` of the stream of scenes that `seed` names."""
    rng = random.Random(f"{seed}/{index}")
    background = (rng.randint(235, 255),) * 3
    image = Image.new("RGB", (SIZE, SIZE), background)
    draw = ImageDraw.Draw(image)
    questions = list((_shapes if rng.random() < 0.5 else _bars)(rng, draw))
    rng.shuffle(questions)
    bucket = int.from_bytes(hashlib.sha256(image.tobytes()).digest()[:4], "big") % len(_SPLITS)
    return Scene(image, tuple(questions), _SPLITS[bucket])


def scenes(seed: int, split: str) -> Iterator[tuple[int, Scene]]:
    """Endless (index, scene) pairs of one split."""
    index = 0
    while True:
        drawn = scene(seed, index)
        if drawn.split == split:
            yield index, drawn
        index += 1


def chart_rows(seed: int, split: str, images: int, questions_per_image: int, first_number: int) -> Iterator[RawRow]:
    """Rows of `images` different images of a split. The label is a random one of the phrasings, listed first."""
    number = first_number
    seen: set[bytes] = set()
    for index, drawn in scenes(seed, split):
        if len(seen) == images:
            return
        buffer = io.BytesIO()
        drawn.image.save(buffer, "PNG")
        if buffer.getvalue() in seen:
            continue
        seen.add(buffer.getvalue())
        rng = random.Random(f"{seed}/{index}/labels")
        for place, question in enumerate(drawn.questions[:questions_per_image]):
            yield RawRow(
                number=number,
                row_id=f"{index:06d}-{place}",
                question=question.text,
                answers=_label_first(question.answers, rng),
                images=[buffer.getvalue()],
                question_type=question.type,
                split=split,
            )
            number += 1


def _label_first(answers: tuple[str, ...], rng: random.Random) -> list[str]:
    label = rng.choice(answers)
    return [label, *(answer for answer in answers if answer != label)]


def _shapes(rng: random.Random, draw: ImageDraw.ImageDraw) -> Iterator[Question]:
    """One to four shapes in a two-by-two grid."""
    half, jitter = SIZE // 2, SIZE // 28
    things = []
    for cell in sorted(rng.sample(range(4), rng.randint(1, 4))):
        shape, colour = rng.choice(SHAPES), rng.choice(list(COLOURS))
        radius = rng.randint(int(SIZE * 0.13), int(SIZE * 0.19))
        x = (cell % 2) * half + half // 2 + rng.randint(-jitter, jitter)
        y = (cell // 2) * half + half // 2 + rng.randint(-jitter, jitter)
        _draw_shape(draw, shape, x, y, radius, COLOURS[colour])
        things.append((shape, colour, cell))
    shapes, colours = [t[0] for t in things], [t[1] for t in things]
    for shape, colour, cell in things:
        if shapes.count(shape) == 1:
            yield Question(
                "colour",
                f"What colour is the {shape}?",
                (colour, f"The {shape} is {colour}.", f"It is {colour}."),
            )
        if colours.count(colour) == 1:
            yield Question(
                "shape",
                f"What shape is {colour}?",
                (shape, f"The {colour} shape is a {shape}.", f"It is a {shape}."),
            )
        name = f"{_article(colour)} {colour} {shape}"
        answers = (f"{colour} {shape}", f"{name[0].upper()}{name[1:]}.", f"There is {name}.")
        yield Question("at", f"What is at the {CORNERS[cell]}?", answers)
    yield Question("count", "How many shapes are there?", _amount(len(things)))
    colour = rng.choice(colours) if rng.random() < 0.7 else rng.choice(list(COLOURS))
    yield Question("count_colour", f"How many {colour} shapes are there?", _amount(colours.count(colour)))
    shape, colour = rng.choice(things)[:2] if rng.random() < 0.5 else (rng.choice(shapes), rng.choice(list(COLOURS)))
    present = any(t[:2] == (shape, colour) for t in things)
    said = ("Yes.", "Yes, there is.") if present else ("No.", "No, there is not.")
    yield Question("exist", f"Is there {_article(colour)} {colour} {shape}?", said)


def _bars(rng: random.Random, draw: ImageDraw.ImageDraw) -> Iterator[Question]:
    """Two to four bars of different colours and values from 1 to 6, with gridlines."""
    colours = rng.sample(list(COLOURS), rng.randint(2, 4))
    values = [rng.randint(1, _TALLEST) for _ in colours]
    _draw_bars(draw, colours, values)
    for kind, best in (("tallest", max(values)), ("shortest", min(values))):
        if values.count(best) == 1:
            colour = colours[values.index(best)]
            answers = (colour, f"The {colour} bar.", f"The {colour} bar is the {kind}.")
            yield Question(kind, f"Which bar is the {kind}?", answers)
    for colour, value in zip(colours, values, strict=True):
        answers = (str(value), f"It is {NUMBERS[value]}.", f"The {colour} bar is {NUMBERS[value]}.")
        yield Question("value", f"What is the value of the {colour} bar?", answers)
    count = len(colours)
    yield Question(
        "bars", "How many bars are there?", (str(count), NUMBERS[count], f"There are {NUMBERS[count]} bars.")
    )
    first, second = rng.sample(range(count), 2)
    said = ("Yes.", "Yes, it is.") if values[first] > values[second] else ("No.", "No, it is not.")
    yield Question("compare", f"Is the {colours[first]} bar taller than the {colours[second]} bar?", said)


def _draw_shape(
    draw: ImageDraw.ImageDraw, shape: str, x: int, y: int, radius: int, colour: tuple[int, int, int]
) -> None:
    if shape == "circle":
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
    elif shape == "square":
        draw.rectangle([x - radius + 1, y - radius + 1, x + radius - 1, y + radius - 1], fill=colour)
    elif shape == "triangle":
        draw.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=colour)
    else:
        arm = max(2, radius // 3)
        draw.rectangle([x - radius, y - arm, x + radius, y + arm], fill=colour)
        draw.rectangle([x - arm, y - radius, x + arm, y + radius], fill=colour)


def _draw_bars(draw: ImageDraw.ImageDraw, colours: list[str], values: list[int]) -> None:
    base, unit = SIZE - 4, (SIZE - 8) / _TALLEST
    for value in range(1, _TALLEST + 1):
        draw.line([(2, base - value * unit), (SIZE - 3, base - value * unit)], fill=(205, 205, 205))
    draw.line([(2, base), (SIZE - 3, base)], fill=(60, 60, 60))
    slot = (SIZE - 6) / len(colours)
    width = min(slot * 0.6, SIZE / 6)
    for place, (colour, value) in enumerate(zip(colours, values, strict=True)):
        x = 3 + slot * place + slot / 2
        draw.rectangle([x - width / 2, base - value * unit, x + width / 2, base], fill=COLOURS[colour])


def _amount(count: int) -> tuple[str, str, str]:
    return str(count), NUMBERS[count], f"There {'is' if count == 1 else 'are'} {NUMBERS[count]}."


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
