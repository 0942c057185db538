"""Small tables in the layout of each benchmark's file, with images that are drawn here: nothing of the real ones is in them."""

import base64
import csv
import io
from pathlib import Path

from PIL import Image, ImageDraw

from masters.benchmarks import BENCHMARKS

COLOURS = ("red", "green", "blue", "black", "orange", "purple")


def picture(place: int) -> bytes:
    """A PNG of a square, another one for each place."""
    image = Image.new("RGB", (56, 56), "white")
    draw = ImageDraw.Draw(image)
    side = 8 + place % 40
    draw.rectangle([4, 4, 4 + side, 4 + side], fill=COLOURS[place % len(COLOURS)])
    draw.text((2, 44), str(place), fill="black")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def cell(*places: int) -> str:
    """The image cell of a row: base64, or a list of it."""
    texts = [base64.b64encode(picture(place)).decode() for place in places]
    return texts[0] if len(texts) == 1 else str(texts)


def rows_of(name: str) -> list[dict[str, str]]:
    """At least four rows of a benchmark."""
    return _MAKERS[BENCHMARKS[name].asking](name)


def write(path: Path, rows: list[dict[str, str]], line_end: str = "\n") -> Path:
    """The rows as a TSV file, with the columns of all rows."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", delimiter="\t", lineterminator=line_end)
        writer.writeheader()
        writer.writerows(rows)
    return path


def make(name: str, folder: Path) -> Path:
    """The benchmark's table in a folder, under its own name."""
    return write(folder / f"{name}.tsv", rows_of(name))


def _choice(name: str) -> list[dict[str, str]]:
    if BENCHMARKS[name].metric == "circular":
        return _circular(name)
    rows = []
    for place in range(5):
        right = COLOURS[place % len(COLOURS)]
        others = [colour for colour in COLOURS if colour != right][: 3 if place else 1]
        options = [*others[:1], right, *others[1:]]
        rows.append(
            {
                "index": str(place),
                "question": f"What colour is square {place}?",
                **dict(zip("ABCD", options, strict=False)),
                "answer": "B",
                "category": "colour" if place % 2 else "square",
                # BLINK asks about several images
                "image": cell(place, place + 1) if name == "BLINK" and place else cell(place),
            }
        )
    return rows


def _circular(name: str) -> list[dict[str, str]]:
    question = "方块是什么颜色？" if "_CN" in name else "What colour is the square?"
    rows = []
    for rotation in range(4):
        for place in range(4):
            options = [COLOURS[(place + step) % len(COLOURS)] for step in range(4 if place else 2)]
            if rotation >= len(options):
                continue
            shifted = options[-rotation:] + options[:-rotation] if rotation else options
            index = place + rotation * 1_000_000
            rows.append(
                {
                    "index": str(index),
                    "hint": "Look closely." if place == 1 else "",
                    "question": question,
                    **dict(zip("ABCD", shifted, strict=False)),
                    "answer": "ABCD"[rotation],
                    "category": "colour",
                    "split": "dev",
                    "image": str(place) if rotation else cell(place),
                }
            )
    return rows


def _short(name: str) -> list[dict[str, str]]:
    answers = ("5", "12.5%", "['red', 'crimson']", "2010")
    return [
        {
            "index": str(place),
            "question": f"What is in picture {place}?",
            "answer": answer,
            "split": "test_human" if place < 2 else "test_augmented",
            "image": cell(place),
        }
        for place, answer in enumerate(answers)
    ]


def _bare(name: str) -> list[dict[str, str]]:
    if name == "MMVet":
        texts = (("red", "rec"), ("4 <AND> a square", "rec,math"), ("blue <OR> navy", "rec"), ("no", "ocr,spat"))
        return [
            {"index": f"v1_{place}", "question": f"Say {place}.", "answer": a, "category": c, "image": cell(place)}
            for place, (a, c) in enumerate(texts)
        ]
    kinds = (
        ("multi_choice", "text", "['29', '34', '37', '38']", "38", ""),
        ("free_form", "integer", "", "14", "0"),
        ("free_form", "float", "", "1.45", "2"),
        ("free_form", "list", "", "[2007, 2008]", ""),
    )
    return [
        {
            "index": str(place),
            "question": f"Hint: Please answer.\nQuestion: number {place}?",
            "answer": answer,
            "question_type": question_type,
            "answer_type": answer_type,
            "choices": choices,
            "precision": precision,
            "image": cell(place),
        }
        for place, (question_type, answer_type, choices, answer, precision) in enumerate(kinds)
    ]


def _marked(name: str) -> list[dict[str, str]]:
    rows = [
        {**row, "index": f"validation_Art_{i}", "split": "validation", "question": f"{row['question']} <image 1>"}
        for i, row in enumerate(_choice("MMStar"))
    ]
    rows[1] |= {"image": cell(1, 2, 3), "A": "<image 2>"}
    open_ = {"index": "validation_Art_9", "question": "How many? <image 1>", "answer": "4", "image": cell(9)}
    dev = {**rows[0], "index": "dev_Art_1", "split": "dev"}
    return [dev, *rows, {**open_, "split": "validation"}]


def _pro(name: str) -> list[dict[str, str]]:
    return [
        {
            "index": str(place),
            "question": f"Which number is in <image 1>? ({place})",
            **{letter: str(10 * step + place) for step, letter in enumerate("ABCDEFGHIJ")},
            "answer": "ABCDEFGHIJ"[place],
            "image": cell(place),
        }
        for place in range(4)
    ]


def _image_only(name: str) -> list[dict[str, str]]:
    return [{"index": str(place), "answer": "ABCDEFGHIJ"[place], "image": cell(place)} for place in range(4)]


_MAKERS = {
    "choice": _choice,
    "short": _short,
    "bare": _bare,
    "marked choice": _marked,
    "pro": _pro,
    "image only": _image_only,
}
