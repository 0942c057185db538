import io
import os
import struct
import zlib
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from masters.config.prepare import ChartsSource, CustomSource, FilesSource
from masters.data.image_files import ImageReader
from masters.data.rows import RawRow, RejectError, SkipRow, check_row, is_integer, is_number, row_key
from masters.families import FAMILIES


def png(width: int = 8, height: int = 8, mode: str = "RGB", kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (width, height), 1).save(buffer, kind)
    return buffer.getvalue()


def tiff_of_a_wrong_type() -> bytes:
    """A tag that should hold a number and says that it holds text: PIL raises TypeError."""
    content = bytearray(png(kind="TIFF"))
    content[72] = 2
    return bytes(content)


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG whose header, with its checksum, says another size."""
    header = b"IHDR" + struct.pack(">II", width, height) + png()[24:29]
    return png()[:12] + header + struct.pack(">I", zlib.crc32(header)) + png()[33:]


GOOD = {"number": 3, "row_id": "r1", "question": "What is it?", "answers": "A cat.", "images": [png()]}
CHOICE = {"answer_type": "choice", "options": ["a cat", "a dog", "a horse"]}
NAN = float("nan")


def source(**fields):
    return FilesSource(**{"type": "files", "name": "data", "path": "data.json", **fields})


def checked(row, of=None):
    """The sample and images of GOOD with some fields changed, or of a whole row."""
    of = of or source()
    return check_row(row if isinstance(row, RawRow) else RawRow(**{**GOOD, **row}), of, ImageReader(of, 1000))


def test_a_good_row():
    sample, images = checked({"notes": ("odd",)})
    assert [image.content for image in images] == GOOD["images"]
    assert sample == {
        "sample_id": "data/r1", "image_ids": [images[0].name], "system": None, "history": [], "question": "What is it?",
        "answer": "A cat.", "answers": ["A cat."], "answer_type": "text", "options": None, "question_type": "",
        "source": "data", "split": "train", "notes": ["odd"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"images": []}, "image_ids", []),
        ({"images": None}, "image_ids", []),
        ({"question": "Is <image> it?"}, "question", "Is <image> it?"),
        ({"row_id": 17}, "sample_id", "data/17"),
        ({"row_id": 3.0}, "sample_id", "data/3"),
        ({"row_id": np.int64(5)}, "sample_id", "data/5"),
        ({"row_id": np.float32(5)}, "sample_id", "data/5"),
        ({"row_id": pa.scalar(6)}, "sample_id", "data/6"),
        ({"row_id": Decimal(7)}, "sample_id", "data/7"),
        ({"row_id": "3.0"}, "sample_id", "data/3.0"),
        ({"answers": ["12", "twelve"]}, "answers", ["12", "twelve"]),
        ({"answers": ("12", 12)}, "answers", ["12", "12"]),
        ({"answers": np.array(["a", "b"])}, "answers", ["a", "b"]),
        ({"answers": 3}, "answer", "3"),
        ({"answers": 3.0}, "answer", "3.0"),
        ({"answers": 0.1}, "answer", "0.1"),
        ({"answers": np.float32(0.1)}, "answer", "0.1"),
        ({"answers": Decimal("1.50")}, "answer", "1.50"),
        ({"answers": True}, "answer", "True"),
        ({"answers": ["ok", 3, 2.5, False]}, "answers", ["ok", "3", "2.5", "False"]),
        ({"answers": " A cat.\n"}, "answer", "A cat."),
        ({"answers": " A cat.\n"}, "notes", ["answer has blanks around it"]),
        ({"answers": ["A", " B"], "notes": ("odd",)}, "notes", ["odd", "answer has blanks around it"]),
        ({"answers": "1,950.5 %", "answer_type": "number"}, "answer_type", "number"),
        ({"answers": 4, "answer_type": "float"}, "answer_type", "number"),
        ({"answers": "1,950", "answer_type": "int"}, "answer_type", "integer"),
        ({"answers": "5.0", "answer_type": "integer"}, "answer", "5.0"),
        ({"answers": 5.0, "answer_type": "integer"}, "answer", "5"),
        ({"answers": "[1, 2]", "answer_type": "list"}, "answer_type", "text"),
        ({"answer_type": "YesNo"}, "answer_type", "text"),
        ({"answer_type": None}, "answer_type", "text"),
        ({**CHOICE, "answers": "B"}, "options", ["a cat", "a dog", "a horse"]),
        ({**CHOICE, "answers": "c", "answer_type": "multi-choice"}, "answer_type", "choice"),
        ({**CHOICE, "answers": "A Dog"}, "answer", "A Dog"),
        ({**CHOICE, "answers": 3, "options": [1, 3]}, "options", ["1", "3"]),
        ({"answers": "D", "answer_type": "multiple_choice"}, "options", None),
        ({"options": []}, "options", None),
        ({"system": "Be brief."}, "system", "Be brief."),
        ({"system": ""}, "system", None),
        ({"system": " \n"}, "system", None),
        ({"system": NAN}, "system", None),
        ({"history": ["What <image>?", "This."], "question": "And why?"}, "history", ["What <image>?", "This."]),
        ({"history": ["How many?", 2]}, "history", ["How many?", "2"]),
        ({"question_type": "colour"}, "question_type", "colour"),
        ({"question_type": NAN}, "question_type", ""),
        ({"split": "test"}, "split", "test"),
        ({"split": "dev"}, "split", "validation"),
        ({"split": "testmini"}, "split", "test"),
        ({"split": "train_sft"}, "split", "train"),
        ({"split": None}, "split", "train"),
    ],
)
def test_what_good_rows_become(change, field, value):
    assert checked(change)[0][field] == value


@pytest.mark.parametrize(
    ("fields", "change", "field", "value"),
    [
        ({"splits": {"holdout": "test"}}, {"split": "holdout"}, "split", "test"),
        ({"splits": {"val": "train"}}, {"split": "val"}, "split", "train"),
        ({"split": "validation"}, {"split": ""}, "split", "validation"),
        ({"answer_type": "number"}, {"answer_type": None, "answers": 4}, "answer_type", "number"),
        (
            {"allow_tokens": ("<|box_start|>", "<|box_end|>")},
            {
                "question": "Where? <|box_start|>",
                "answers": "<|box_start|>(1,2)<|box_end|>",
                "history": ["<|box_end|>", "."],
            },
            "answer",
            "<|box_start|>(1,2)<|box_end|>",
        ),
    ],
)
def test_what_the_source_says_of_its_rows(fields, change, field, value):
    assert checked(change, source(**fields))[0][field] == value


def test_rows_of_other_kinds_of_sources():
    for other in (ChartsSource(type="charts", name="data"), CustomSource(type="custom", name="data", reader="a:b")):
        assert checked({"split": "val", "answer_type": None}, other)[0]["sample_id"] == "data/r1"


@pytest.mark.parametrize("change", [{}, {"question": None}, {"problem": ("line is not JSON", "")}])
def test_rows_of_a_split_that_the_recipe_leaves_out_are_no_rejects(change):
    with pytest.raises(SkipRow):
        checked({"split": "train_small", **change}, source(splits={"train_small": "skip"}))


BROKEN = {
    "id is missing": [{"row_id": None}, {"row_id": ""}, {"row_id": NAN}, {"row_id": pa.scalar(None, pa.int64())}],
    "id is neither a string nor an integer": [{"row_id": [1]}, {"row_id": 3.5}, {"row_id": True}, {"row_id": float("inf")}],
    "id is empty": [{"row_id": "  "}],
    "question is missing": [{"question": None}, {"question": NAN}],
    "question is empty": [{"question": " \n"}],
    "question is not text": [{"question": 7}],
    "question holds a token reserved for chat templates": [{"question": "Hi <|im_end|> there"}],
    "question is not valid Unicode": [{"question": "a\ud800b"}],
    "question holds a NUL character": [{"question": "a\x00b"}],
    "answer is missing": [{"answers": []}, {"answers": None}, {"answers": NAN}, {"answers": ["a", None]}],
    "answer is empty": [{"answers": "  "}],
    "answer is not text": [{"answers": ["ok", ["nested"]]}, {"answers": float("inf")}],
    "answer is not a list": [{"answers": {"a": 1}}],
    "answer holds a token reserved for chat templates": [{"answers": "<|box_start|>"}],
    "earlier turn holds a token reserved for chat templates": [{"history": ["<|box_start|>", "a"]}],
    "answer declared a number is none": [{"answers": "about five", "answer_type": "number"}],
    "answer declared an integer is none": [
        {"answers": answer, "answer_type": "integer"} for answer in ("5.5", "12 %", "1,95", "five", 5.5, "5.")
    ],
    "answer names no option": [
        {**CHOICE, "answers": "D"}, {**CHOICE, "answers": "cow"}, {**CHOICE, "answers": "a c"},
        {"answers": "a cat", "answer_type": "choice"},
    ],
    "option list is not a list": [{**CHOICE, "options": "a cat"}],
    "option is empty": [{**CHOICE, "options": ["a", " "]}],
    "option is not text": [{**CHOICE, "options": ["a", {}]}],
    "option is missing": [{**CHOICE, "options": ["a", None]}],
    "answer type is unknown": [{"answer_type": "date"}, {"answer_type": 5}],
    "split is unknown": [{"split": "holdout"}, {"split": ["train"]}],
    "system prompt is not text": [{"system": 5}],
    "history is not question, answer, question, answer": [{"history": ["one"]}],
    "history is not a list": [{"history": "one"}],
    "image list is not a list": [{"images": "x.png"}],
    "image file cannot be read": [{"images": ["/nowhere/x.png"]}],
    "image is neither bytes nor a path": [{"images": [12]}, {"images": [None]}],
    "image is empty": [{"images": [b""]}],
    "image is corrupt": [{"images": [png(30, 30)[:60]]}],
    "image is of no known format": [{"images": [b"this is text"]}],
    "image is too large": [{"images": [png(40, 40)]}],
    "image has floating-point pixels": [{"images": [png(mode="F", kind="TIFF")]}],
    "image is too long and narrow": [{"images": [png(401, 2)]}],
    "number of <image> marks differs from number of images": [
        {"question": "<image> or <image>?"}, {"history": ["<image>", "a"], "question": "<image>"},
    ],
    "line is not JSON": [{"problem": ("line is not JSON", "Expecting value")}],
}  # fmt: skip


@pytest.mark.parametrize(("reason", "change"), [(reason, change) for reason in BROKEN for change in BROKEN[reason]])
def test_a_broken_row_is_rejected_with_its_own_reason(reason, change):
    with pytest.raises(RejectError) as caught:
        checked(change)
    assert caught.value.reason == reason
    assert len(caught.value.detail) < 400


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"row_id": None}, "`id: null`"),
        ({"row_id": {"index": 4}}, "`id: extra_info.index`"),
        ({"split": "holdout"}, "name it in `splits`"),
        ({**CHOICE, "answers": "D"}, "a cat, a dog, a horse"),
    ],
)
def test_rejects_say_what_helps(change, detail):
    with pytest.raises(RejectError) as caught:
        checked(change)
    assert detail in caught.value.detail


@pytest.mark.parametrize("token", ["<|im_end|>", "<|image_pad|>", "<|vision_start|>"])
def test_tokens_that_prompts_are_made_of_are_never_text(token):
    with pytest.raises(RejectError) as caught:
        checked({"answers": f"a {token}"}, source(allow_tokens=(token,)))
    assert caught.value.detail == token


QWEN, INTERN = FAMILIES["qwen2_5_vl"], FAMILIES["internvl"]


@pytest.mark.parametrize(
    ("text", "family", "refused"),
    [
        ("Write <img> and <video> in HTML", QWEN, None),
        ("Write <img> and <video> in HTML", None, None),  # `masters data show` does not know the student
        ("What is <IMG_CONTEXT>?", QWEN, None),
        ("Close it with </img>", INTERN, "</img>"),
        ("Write <video> in HTML", INTERN, "<video>"),
        ("What is <IMG_CONTEXT>?", INTERN, "<IMG_CONTEXT>"),
        ("What is <|im_end|>?", INTERN, "<|im_end|>"),
        ("What is <|image_pad|>?", QWEN, "<|image_pad|>"),
        ("What is <|image_pad|>?", None, "<|image_pad|>"),
        ("What is <|image_pad|>?", INTERN, None),
        ("Is <|box_start|> in <|im_end|>?", QWEN, "<|im_end|>"),
    ],
)
def test_never_text_is_what_the_students_family_makes_prompts_of(text, family, refused):
    """All of them are allowed by the recipe."""
    of = source(allow_tokens=("<|box_start|>", "<|image_pad|>", "<|im_end|>", "<img>", "<video>", "<IMG_CONTEXT>"))
    for change in ({"question": text}, {"answers": text}, {"system": text}, {"history": [text, "Yes."]}):
        row = RawRow(**{**GOOD, **change})
        if refused is None and ("system" not in change or "<|" not in text):
            check_row(row, of, ImageReader(of, 1000), family)
            continue
        with pytest.raises(RejectError) as caught:
            check_row(row, of, ImageReader(of, 1000), family)
        assert caught.value.reason.endswith("holds a token reserved for chat templates")
        if "system" not in change:  # no token is allowed there
            assert caught.value.detail == refused


def test_marks_are_counted_before_images_are_read():
    with pytest.raises(RejectError) as caught:
        checked({"images": ["/nowhere/x.png"], "question": "<image> <image>"})
    assert caught.value.reason.startswith("number of <image> marks")


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("a\0b.png", "image file cannot be read"),
        ("a\ud800b.png", "image file cannot be read"),
        (os.fsdecode(b"a\xffb.png"), "image file cannot be read"),
        (tiff_of_a_wrong_type(), "image is corrupt"),
        (png_that_claims(60_000, 60_000), "image is too large"),
    ],
)
def test_images_that_break_python_or_pil_cost_one_row(image, reason, tmp_path):
    with pytest.raises(RejectError) as caught:
        checked({"images": [image], "folder": str(tmp_path)})
    assert caught.value.reason == reason
    caught.value.detail.encode()  # what is written to the rejects


def test_rejects_are_found_by_id_or_else_by_number():
    assert row_key(RawRow(**GOOD)) == "r1"
    assert row_key(RawRow(**{**GOOD, "row_id": None})) == "row 3"


@pytest.mark.parametrize(("text", "expected"), [("5", True), ("-3.2", True), ("1,234", True), (".5", True), ("40 %", True), ("", False), ("%", False), ("12a", False), ("1,2", False), ("5 apples", False), ("1e5", False)])  # fmt: skip
def test_what_is_a_number(text, expected):
    assert is_number(text) is expected


@pytest.mark.parametrize(("text", "expected"), [("5", True), ("-3", True), ("1,950", True), ("5.0", True), ("+7", True), ("", False), ("5.1", False), ("5 %", False), ("1,95", False), ("1e5", False), ("x5", False)])  # fmt: skip
def test_what_is_a_whole_number(text, expected):
    assert is_integer(text) is expected
