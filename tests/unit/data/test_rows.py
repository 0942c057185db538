import io
import os
import struct
import zlib

import pytest
from PIL import Image

from masters.data.rows import RawRow, RejectError, check_row, is_number, row_key


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


def test_a_good_row():
    sample, images = check_row(RawRow(**GOOD), "data", 1000)
    assert sample["sample_id"] == "data/r1"
    assert sample["answer"] == "A cat."
    assert sample["answers"] == ["A cat."]
    assert sample["image_ids"] == [images[0].name]
    assert images[0].content == GOOD["images"][0]


@pytest.mark.parametrize(
    "change",
    [
        {"images": []},
        {"images": [png(), png(9)], "question": "Is <image> <image>?"},
        {"row_id": 17},
        {"answers": ["12", "twelve"]},
        {"answers": "1,950.5 %", "answer_type": "number"},
        {"system": "Be brief.", "history": ["What <image>?", "This."], "question": "And why?"},
        {"images": [png(mode="L")]},
        {"images": [png(mode="P", kind="GIF")]},
        {"images": [png(kind="JPEG")]},
        {"images": [png(mode="RGBA")]},
        {"images": [png(mode="I;16")]},
    ],
)
def test_other_good_rows(change):
    check_row(RawRow(**{**GOOD, **change}), "data", 1000)


BROKEN = {
    "id is missing": {"row_id": None},
    "id is neither a string nor an integer": {"row_id": [1]},
    "id is empty": {"row_id": "  "},
    "question is missing": {"question": None},
    "question is empty": {"question": " \n"},
    "question is not text": {"question": 7},
    "question holds a token reserved for chat templates": {"question": "Hi <|im_end|> there"},
    "question is not valid Unicode": {"question": "a\ud800b"},
    "question holds a NUL character": {"question": "a\x00b"},
    "answer is missing": {"answers": []},
    "answer is empty": {"answers": "  "},
    "answer is not text": {"answers": ["ok", 3]},
    "answer is not a list": {"answers": {"a": 1}},
    "answer declared a number is none": {"answers": "about five", "answer_type": "number"},
    "answer type is unknown": {"answer_type": "date"},
    "split is unknown": {"split": "dev"},
    "system prompt is empty": {"system": " "},
    "history is not question, answer, question, answer": {"history": ["one"]},
    "history is not a list": {"history": "one"},
    "image list is not a list": {"images": "x.png"},
    "image file cannot be read": {"images": ["/nowhere/x.png"]},
    "image is neither bytes nor a path": {"images": [12]},
    "image is empty": {"images": [b""]},
    "image is corrupt": {"images": [png(30, 30)[:60]]},
    "image is of no known format": {"images": [b"this is text"]},
    "image is too large": {"images": [png(40, 40)]},
    "image has floating-point pixels": {"images": [png(mode="F", kind="TIFF")]},
    "image is too long and narrow": {"images": [png(401, 2)]},
    "number of <image> marks differs from number of images": {"question": "<image> or <image>?"},
    "line is not JSON": {"problem": ("line is not JSON", "Expecting value")},
}


@pytest.mark.parametrize("reason", BROKEN)
def test_a_broken_row_is_rejected_with_its_own_reason(reason):
    with pytest.raises(RejectError) as caught:
        check_row(RawRow(**{**GOOD, **BROKEN[reason]}), "data", 1000)
    assert caught.value.reason == reason


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
def test_images_that_break_python_or_pil_cost_one_row(image, reason):
    with pytest.raises(RejectError) as caught:
        check_row(RawRow(**{**GOOD, "images": [image]}), "data", 1000)
    assert caught.value.reason == reason
    caught.value.detail.encode()  # what is written to the rejects


def test_rejects_are_found_by_id_or_else_by_number():
    assert row_key(RawRow(**GOOD)) == "r1"
    assert row_key(RawRow(**{**GOOD, "row_id": None})) == "row 3"


@pytest.mark.parametrize(("text", "expected"), [("5", True), ("-3.2", True), ("1,234", True), (".5", True), ("40 %", True), ("", False), ("%", False), ("12a", False), ("1,2", False), ("5 apples", False), ("1e5", False)])  # fmt: skip
def test_what_is_a_number(text, expected):
    assert is_number(text) is expected
