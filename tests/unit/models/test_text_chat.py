"""Chats for folders of any family: what templates differ in."""

import json
import shutil

import pytest

from masters.judging.prompts import evaluate_prompt
from masters.models.chat import ChatProcessor
from masters.models.text_chat import TextChat, chat_of

PLAIN = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}[answer]{% endif %}"
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + PLAIN
DROPS_SYSTEM = PLAIN.replace(
    "[{{ m['role'] }}] {{ m['content'] }}", "{% if m['role'] != 'system' %}{{ m['content'] }}{% endif %}"
)
PARTS_ONLY = "{% for m in messages %}{% for p in m['content'] %}{{ p['text'] }}{% endfor %}{% endfor %}"
CHAT = evaluate_prompt("Q?", "red", "It is red", "00ff")


@pytest.fixture
def folder(tmp_path, trained):
    """folder(template) -> a model folder of an unknown family with the tiny tokenizer; None leaves the template out."""

    def make(template):
        for file in trained[1].glob("tokenizer*"):
            shutil.copy(file, tmp_path)
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
        if template is not None:
            (tmp_path / "chat_template.jinja").write_text(template)
        return tmp_path

    return make


@pytest.mark.parametrize("template", [PLAIN, NO_SYSTEM, DROPS_SYSTEM])
def test_every_word_of_both_turns_is_in_the_prompt_once(folder, template):
    chat = chat_of(folder(template))
    assert isinstance(chat, TextChat)
    prompt = chat.prompt(CHAT)
    for turn in CHAT:
        assert prompt.count(turn["content"][0]["text"]) == 1
    assert prompt.endswith("[answer]")
    assert "<|im_end|>" in chat.tokenizer.get_added_vocab()


@pytest.mark.parametrize(
    ("template", "message"), [(None, "no chat template"), (PARTS_ONLY, "takes no question of text")]
)
def test_folders_that_cannot_be_asked(folder, template, message):
    with pytest.raises(ValueError, match=message):
        chat_of(folder(template))


def test_a_folder_without_a_tokenizer(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    with pytest.raises(ValueError, match="has no tokenizer"):
        chat_of(tmp_path)


def test_a_family_that_is_known_has_its_own_processor(trained):
    assert isinstance(chat_of(trained[1]), ChatProcessor)
