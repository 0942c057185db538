"""Prompt lengths from sizes alone, against the processor itself."""

import json
import random
import subprocess
import sys

import pytest
from PIL import Image

from masters.families import FAMILIES
from masters.models.chat import ChatProcessor
from masters.models.folder import family_of
from masters.models.prompts import PromptCounter, messages

SAMPLE = {"system": None, "history": [], "question": "Is it <image>?", "image_ids": ["a"]}


def sizes(count):
    """Small and large, square and narrow, odd ones among them; the first ones lie at the borders of rounding."""
    rng = random.Random(5)
    yield from ((1, 1), (1, 200), (28, 28), (14, 42), (42, 14), (56, 5600), (2000, 11))
    for _ in range(count - 7):
        width = int(2 ** rng.uniform(2, 11))
        yield width, max(1, min(2000, int(width * 2 ** rng.uniform(-3, 3))))


@pytest.mark.parametrize("limits", [(3136, 12544), (3136, 1_003_520), (200_000, 300_000)])
def test_image_tokens_are_those_of_the_processor(trained, limits):
    """>= 200 sizes for each pair of pixel limits."""
    processor = ChatProcessor(trained[0], family_of(trained[0])).processor.image_processor
    settings = {"size": {"shortest_edge": limits[0], "longest_edge": limits[1]}, "patch_size": 14, "merge_size": 2}
    processor.size = type(processor.size)(shortest_edge=limits[0], longest_edge=limits[1])
    for width, height in sizes(230):
        patches = processor.get_number_of_image_patches(
            height, width, {"min_pixels": limits[0], "max_pixels": limits[1]}
        )
        assert FAMILIES["qwen2_5_vl"].image_tokens(width, height, settings) == patches // 4, (width, height)


@pytest.mark.parametrize("names", [("min_pixels", "max_pixels"), ("size", None)])
def test_settings_under_their_older_and_newer_names(names):
    settings = (
        {"size": {"shortest_edge": 3136, "longest_edge": 12544}}
        if names[1] is None
        else {names[0]: 3136, names[1]: 12544}
    )
    assert FAMILIES["qwen2_5_vl"].image_tokens(448, 448, settings) == 16


def test_a_shape_that_the_processor_refuses():
    with pytest.raises(ValueError, match="1 x 201: one side is more than 200 times"):
        FAMILIES["qwen2_5_vl"].image_tokens(1, 201, {})


PROMPTS = [
    {},
    {"system": "Be brief."},
    {"question": "Colour?", "image_ids": []},
    {"question": "Which of them?", "image_ids": ["a", "b"]},
    {"question": "Is <image>\n the same as <image>?", "image_ids": ["a", "b"]},
    {"history": ["<image>What?", "A red cat."], "question": "Sure?"},
    {"question": "Grüße, 漢字 🙂 <image>"},
]


@pytest.mark.parametrize("change", PROMPTS)
def test_a_prompt_is_counted_as_the_processor_encodes_it(trained, change):
    sample = {**SAMPLE, **change}
    chat, counter = ChatProcessor(trained[0], family_of(trained[0])), PromptCounter(trained[0], family_of(trained[0]))
    for width, height in [(56, 56), (300, 90), (999, 1000), (31, 2000)]:
        images = [Image.new("RGB", (width, height))] * len(sample["image_ids"])
        encoded = chat.encode(messages(sample), images)
        assert counter.prompt(sample, [(width, height)] * len(images)) == len(encoded.input_ids)


def test_an_answer_is_counted_without_its_end(trained):
    chat, counter = ChatProcessor(trained[0], family_of(trained[0])), PromptCounter(trained[0], family_of(trained[0]))
    for answer in ("Red.", "It is 5.", "漢"):
        assert counter.text(answer) == len(chat.answer_ids(answer)) - 1


def test_a_folder_without_a_template_or_a_tokenizer(trained, tmp_path):
    family = family_of(trained[0])
    with pytest.raises(ValueError, match=r"has no tokenizer\.json"):
        PromptCounter(tmp_path, family)
    (tmp_path / "tokenizer.json").write_bytes((trained[0] / "tokenizer.json").read_bytes())
    with pytest.raises(ValueError, match="has no chat template"):
        PromptCounter(tmp_path, family)
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "{{ raise_exception('no chats') }}"}))
    with pytest.raises(ValueError, match="the chat template refuses it: no chats"):
        PromptCounter(tmp_path, family).prompt(SAMPLE, [(56, 56)])


def test_counting_needs_no_torch(trained):
    code = (
        "import sys; from pathlib import Path; from masters.models.prompts import PromptCounter\n"
        "from masters.models.folder import family_of; folder = Path(sys.argv[1])\n"
        "sample = {'system': None, 'history': [], 'question': 'Q <image>', 'image_ids': ['a']}\n"
        "PromptCounter(folder, family_of(folder)).prompt(sample, [(56, 56)])\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(trained[0])], check=False).returncode == 0
