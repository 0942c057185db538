"""A student's folder: the files of its base beside the weights; and the licence that it inherits."""

import pytest

from masters.models.exported import copy_side_files, side_files
from masters.models.licence import Licence, front_matter, keep_licence, licence_of

SIDE_FILES = {
    "config.json", "generation_config.json", "preprocessor_config.json", "video_preprocessor_config.json", "tokenizer.json",
    "tokenizer_config.json", "vocab.json", "merges.txt", "tokenizer.model", "added_tokens.json", "special_tokens_map.json",
    "chat_template.jinja", "chat_template.json", "processor_config.json", "LICENSE", "NOTICE",
}  # fmt: skip
LEFT = {
    "README.md", ".gitattributes", "training.json", "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
    "pytorch_model.bin.index.json", "model.gguf", "modeling_custom.py", "consolidated.pth", "model.onnx",
}  # fmt: skip


def test_what_a_student_takes_over(tmp_path):
    base, target, blobs = (tmp_path / name for name in ("base", "student", "blobs"))
    for folder in (base, target, blobs, base / "figures"):
        folder.mkdir()
    for name in SIDE_FILES | LEFT:  # as in the hub's cache: links to files that only their owner may write
        (blobs / name).write_text(name)
        (blobs / name).chmod(0o444)
        (base / name).symlink_to(blobs / name)
    (target / "config.json").write_text("of training")
    assert {file.name for file in side_files(base)} == SIDE_FILES
    copy_side_files(base, target)
    assert {file.name: file.read_text() for file in target.iterdir()} == {name: name for name in SIDE_FILES}
    assert all(file.stat().st_mode & 0o200 and not file.is_symlink() for file in target.iterdir())


APACHE = "\n                              Apache License\n                        Version 2.0, January 2004\n"
LICENCES = {
    # name: (files of the base, key, name, permissive)
    "a card": ({"README.md": "---\nlicense: apache-2.0\nlanguage: [en]\n---\n# Hi\n"}, "apache-2.0", "", True),
    "a card of another": (
        {"README.md": "---\r\nlicense_name: qwen-research\r\nlicense: other\r\n---\r\n"}, "other", "qwen-research", False,
    ),
    "the card goes before the file": ({"README.md": "---\nlicense: mit\n---\n", "LICENSE": APACHE}, "mit", "", True),
    "a file": ({"LICENSE": APACHE}, "apache-2.0", "", True),
    "a file of Qwen": ({"LICENSE": "Qwen RESEARCH LICENSE AGREEMENT\n\nQwen Release Date"}, "other", "qwen-research", False),
    "an older one": ({"LICENSE.txt": "Tongyi Qianwen LICENSE AGREEMENT\n"}, "other", "", False),
    "a file of somebody": ({"LICENSE": "All is mine.", "README.md": "# No front matter\n"}, "other", "", False),
    "it only names one": ({"LICENSE": "Mine.\n" * 20 + "MIT License"}, "other", "", False),
    "not commercial": ({"README.md": "---\nlicense: cc-by-nc-4.0\n---\n"}, "cc-by-nc-4.0", "", False),
    "front matter that is broken": ({"README.md": "---\nlicense: [a\n---\n", "LICENSE": APACHE}, "apache-2.0", "", True),
}  # fmt: skip


@pytest.mark.parametrize("name", LICENCES)
def test_the_licence_of_a_folder(tmp_path, name):
    files, key, named, permissive = LICENCES[name]
    for file, text in files.items():
        (tmp_path / file).write_text(text)
    found = licence_of(tmp_path)
    assert (found.key, found.name, found.permissive) == (key, named, permissive)
    target = tmp_path / "student"
    target.mkdir()
    keep_licence(tmp_path, target)
    assert front_matter((target / "README.md").read_text()).items() >= found.metadata().items()


def test_the_licence_of_a_name_and_none(tmp_path):
    assert licence_of("Qwen/Qwen2.5-VL-7B-Instruct@" + "0" * 40).key == "apache-2.0"
    research = licence_of("qwen/qwen2.5-vl-3b-instruct")
    assert (research.key, str(research), research.permissive) == ("other", "qwen-research", False)
    assert licence_of("somebody/model") is None
    assert licence_of(tmp_path) is None
    keep_licence(tmp_path, tmp_path)
    assert front_matter((tmp_path / "README.md").read_text()) == {"library_name": "transformers"}
    assert str(Licence("other")) == "other"
