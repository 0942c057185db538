import io
import json
import shutil

import pytest
from PIL import Image

from masters.families.qwen2_5_vl import QWEN2_5_VL
from masters.models.chat import ChatProcessor, common_vocabulary, load_image
from masters.models.prompts import messages


def sample(**fields):
    return {"system": None, "history": [], "question": "What?", "image_ids": [], **fields}


def kinds(chat):
    return [(m["role"], ["image" if p["type"] == "image" else p["text"] for p in m["content"]]) for m in chat]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [("user", ["What?"])]),
        ({"image_ids": ["a", "b"]}, [("user", ["image", "image", "What?"])]),
        ({"question": "<image>\nWhat?", "image_ids": ["a"]}, [("user", ["image", "What?"])]),
        (
            {"question": "Is <image> like <image>?", "image_ids": ["a", "b"]},
            [("user", ["Is ", "image", " like ", "image", "?"])],
        ),
        ({"system": "Be brief."}, [("system", ["Be brief."]), ("user", ["What?"])]),
        (
            {"history": ["<image> Who?", "Me."], "image_ids": ["a"]},
            [("user", ["image", " Who?"]), ("assistant", ["Me."]), ("user", ["What?"])],
        ),
        (
            {"history": ["Who?", "Me."], "image_ids": ["a"]},
            [("user", ["image", "Who?"]), ("assistant", ["Me."]), ("user", ["What?"])],
        ),
    ],
)
def test_messages(fields, expected):
    assert kinds(messages(sample(**fields))) == expected


@pytest.fixture(scope="module")
def chat(make_model):
    return ChatProcessor(make_model(), QWEN2_5_VL)


def test_images_are_loaded_as_prepare_checked_them():
    buffer = io.BytesIO()
    Image.new("RGBA", (1, 1), (0, 0, 0, 0)).save(buffer, "PNG")
    assert load_image(buffer.getvalue()).getpixel((0, 0)) == (255, 255, 255)


def test_a_prompt_ends_where_the_model_begins(chat):
    prompt = chat.prompt(messages(sample(image_ids=["a"])))
    assert (
        prompt
        == "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>What?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_answers_end_with_the_end_of_turn(chat):
    ids = chat.answer_ids("It is red.")
    assert ids[-1] == chat.end_of_turn
    assert chat.tokenizer.decode(ids[:-1]) == "It is red."


def test_the_blank_prompt_has_an_image(chat):
    blank = chat.blank()
    assert blank.media["pixel_values"].shape[0] == 16
    assert (blank.input_ids == chat.vision_tokens[0]).sum() == 4


def test_the_common_vocabulary_is_what_both_know(chat):
    assert common_vocabulary(chat, chat) == len(chat.tokenizer)


def test_ids_without_a_row_in_either_head_are_not_common(make_model, tmp_path):
    """A tokenizer may have more ids than a head has rows."""
    chat = ChatProcessor(make_model(), QWEN2_5_VL)
    folder = shutil.copytree(make_model(), tmp_path / "fewer")
    config = json.loads((folder / "config.json").read_text())
    text = config.get("text_config") or config
    text["vocab_size"] = len(chat.tokenizer) - 3
    (folder / "config.json").write_text(json.dumps(config))
    fewer = ChatProcessor(folder, QWEN2_5_VL)
    assert common_vocabulary(chat, fewer) == common_vocabulary(fewer, chat) == len(chat.tokenizer) - 3


def test_another_familys_tokenizer_is_refused(make_model, tmp_path):
    folder = shutil.copytree(make_model(), tmp_path / "other")
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace('"Ġ": 20', '"Ġ": 2_0').replace('"!": 8', '"@@": 8'))
    with pytest.raises(ValueError, match="not of one family"):
        common_vocabulary(ChatProcessor(make_model(), QWEN2_5_VL), ChatProcessor(folder, QWEN2_5_VL))
