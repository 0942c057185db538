"""Limits of images: tokens counted from sizes are the processor's, students keep limits, and wrong ones are refused."""

import json
import math
import random
import shutil

import pytest
import torch
from PIL import Image

from masters.config.images import OWN_LIMITS, ImagesConfig
from masters.families import FAMILIES
from masters.models.chat import ChatProcessor
from masters.models.exported import copy_side_files
from masters.models.folder import family_of
from masters.models.image_limits import write_limits
from masters.models.prompts import PromptCounter, messages
from masters.models.tiny_families import KINDS

SAMPLE = {"system": None, "history": [], "question": "Is it <image>?", "image_ids": ["a"]}
GIVEN = {
    "qwen2_5_vl": ImagesConfig(min_pixels=7000, max_pixels=40_000),
    "qwen3_vl": ImagesConfig(max_pixels=90_000),
    "qwen3_vl_moe": ImagesConfig(min_pixels=1, max_pixels=32 * 32),
    "internvl3": ImagesConfig(max_tiles=1),
    "internvl3_5": ImagesConfig(max_tiles=6),
    "internvl3_5_moe": ImagesConfig(max_tiles=3),
}
RELEASED = {
    "qwen2_5_vl": {"patch_size": 14, "merge_size": 2, "min_pixels": 3136, "max_pixels": 12_845_056},
    "qwen3_vl": {"patch_size": 16, "merge_size": 2, "size": {"shortest_edge": 65_536, "longest_edge": 16_777_216}},
    "internvl": {"size": {"height": 448, "width": 448}, "min_patches": 1, "max_patches": 12, "crop_to_patches": False},
}
"""Settings of image processors as released models have them."""
LIMITED = [
    *(("qwen2_5_vl", limits) for limits in ({}, {"max_pixels": 1280 * 28 * 28}, {"min_pixels": 10**6}, {"max_pixels": 3136})),
    *(("qwen3_vl", limits) for limits in ({}, {"max_pixels": 1280 * 32 * 32}, {"min_pixels": 1, "max_pixels": 1024})),
    *(("internvl", limits) for limits in ({}, {"max_tiles": 1}, {"max_tiles": 6}, {"max_tiles": 40})),
]  # fmt: skip


def sizes(count=240, largest=(5000, 4000)):
    """Small and large, square and narrow; the first ones lie at borders of rounding and of what is refused."""
    rng, (width, height) = random.Random(5), largest
    yield from ((1, 1), (1, 200), (200, 1), (28, 28), (32, 32), (14, 42), (42, 14), (448, 448), (640, 480))
    yield from ((1008, 896), (896, 1008))  # two grids are equally near, and the area is on the border
    yield from (largest, (width, width // 200), (height // 200, height), (1, 201), (201, 1))
    for _ in range(count - 16):
        across = max(1, int(2 ** rng.uniform(0, math.log2(width))))
        yield across, max(1, min(height, int(across * 2 ** rng.uniform(-4, 4))))


def by_the_processor(processor, family, width, height):
    """Tokens of an image by its image processor's own counting, or None where it refuses the shape."""
    try:
        patches = processor.get_number_of_image_patches(height, width, {"crop_to_patches": True})
    except ValueError:
        return None
    return patches if family.name == "internvl" else patches // processor.merge_size**2


def counted(family, width, height, settings):
    try:
        return family.image_tokens(width, height, settings)
    except ValueError:
        return None


@pytest.mark.parametrize("images", [True, False], ids=["limits", "own"])
@pytest.mark.parametrize("kind", KINDS)
def test_prompts_are_counted_as_the_processor_counts(make_family, kind, images):
    folder, limits = make_family(kind), GIVEN[kind] if images else OWN_LIMITS
    family = family_of(folder)
    counter, processor = PromptCounter(folder, family, limits), ChatProcessor(folder, family, limits).processor
    each = getattr(processor, "image_seq_length", 1)
    around = counter.prompt({**SAMPLE, "image_ids": []}, []) - 1  # the placeholder is there, too
    checked = set()
    for width, height in sizes():
        found = by_the_processor(processor.image_processor, family, width, height)
        if found is None:
            with pytest.raises(ValueError, match="more than 200 times"):
                counter.prompt(SAMPLE, [(width, height)])
            continue
        expected = found * each + (2 if family.name == "internvl" else 0)
        assert counter.prompt(SAMPLE, [(width, height)]) - around == expected, (width, height)
        checked.add((width, height))
    assert len(checked) >= 200


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_are_counted_as_the_processor_encodes_them(make_family, kind):
    folder = make_family(kind)
    for limits in (GIVEN[kind], OWN_LIMITS):
        chat, counter = (make(folder, family_of(folder), limits) for make in (ChatProcessor, PromptCounter))
        for width, height in [*sizes(34, (900, 800)), (5000, 4000)]:
            if max(width, height) <= 200 * min(width, height):
                encoded = chat.encode(messages(SAMPLE), [Image.new("RGB", (width, height))])
                assert counter.prompt(SAMPLE, [(width, height)]) == len(encoded.input_ids), (width, height)


@pytest.mark.parametrize(("name", "limits"), LIMITED)
def test_released_settings_are_counted_as_the_processor_counts(name, limits):
    from transformers import GotOcr2ImageProcessor, Qwen2VLImageProcessor

    family, own = FAMILIES[name], RELEASED[name]
    changes = family.image_settings(limits, own)
    assert bool(changes) == bool(limits)
    make = GotOcr2ImageProcessor if name == "internvl" else Qwen2VLImageProcessor
    processor, settings, checked = make(**{**own, **changes}), {**own, **changes, "image_seq_length": 256}, 0
    for width, height in sizes():
        found = by_the_processor(processor, family, width, height)
        expected = found if found is None or name != "internvl" else 256 * found + 2
        assert counted(family, width, height, settings) == expected, (width, height)
        checked += found is not None
    assert checked >= 200


@pytest.mark.parametrize(
    ("name", "limits", "size", "tokens"),
    [
        ("qwen2_5_vl", {}, (1920, 1080), 2691),
        ("qwen2_5_vl", {"max_pixels": 1280 * 28 * 28}, (1920, 1080), 1222),
        ("qwen3_vl", {}, (1920, 1080), 2040),
        ("qwen3_vl", {"max_pixels": 1280 * 32 * 32}, (3000, 4000), 1230),
        ("qwen3_vl", {"min_pixels": 1280 * 32 * 32}, (56, 56), 1296),
        ("internvl", {}, (640, 480), 3330),
        ("internvl", {"max_tiles": 6}, (640, 480), 1794),
        ("internvl", {"max_tiles": 2}, (896, 448), 770),
        ("internvl", {"max_tiles": 1}, (896, 448), 258),
    ],
)
def test_tokens_of_images_within_limits(name, limits, size, tokens):
    """By hand, for released models: what docs and template speak of."""
    family, own = FAMILIES[name], RELEASED[name]
    assert family.image_tokens(*size, {**own, **family.image_settings(limits, own)}) == tokens


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl", "internvl3"])
def test_a_students_folder_keeps_the_limits_it_was_trained_with(make_family, kind, older, tmp_path):
    """In either of the two files; all else stays as in the base."""
    base, images = make_family(kind), GIVEN[kind]
    folder, family = tmp_path / "student", family_of(base)
    copy_side_files(base, made(folder))
    if older:
        apart(folder)
    before = content(folder)
    write_limits(folder, family, OWN_LIMITS)
    assert content(folder) == before
    write_limits(folder, family, images)
    after = content(folder)
    assert {name for name in before if before[name] != after[name]} == {
        "preprocessor_config.json" if older else "processor_config.json"
    }
    chat = ChatProcessor(base, family, images)
    for limits in (OWN_LIMITS, images):
        saved, counter = (make(folder, family, limits) for make in (ChatProcessor, PromptCounter))
        for size in ((90, 80), (600, 300)):
            mine, theirs = (each.encode(messages(SAMPLE), [Image.new("RGB", size)]) for each in (saved, chat))
            assert torch.equal(mine.input_ids, theirs.input_ids)
            assert torch.equal(mine.media["pixel_values"], theirs.media["pixel_values"])
            assert counter.prompt(SAMPLE, [size]) == len(mine.input_ids)
    assert saved.processor.video_processor.to_dict() == chat.processor.video_processor.to_dict()


def made(folder):
    folder.mkdir()
    return folder


def content(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def apart(folder):
    """Processors in files of their own, and pixels by older names, as older folders have them."""
    written = json.loads((folder / "processor_config.json").read_text())
    own, videos = written.pop("image_processor"), written.pop("video_processor")
    if "shortest_edge" in own["size"]:
        own |= {"min_pixels": own["size"]["shortest_edge"], "max_pixels": own.pop("size")["longest_edge"]}
    files = {
        "processor_config.json": written,
        "preprocessor_config.json": own,
        "video_preprocessor_config.json": videos,
    }
    for name, settings in files.items():
        (folder / name).write_text(json.dumps(settings))


def test_limits_go_before_the_names_of_older_files(make_family, tmp_path):
    folder = shutil.copytree(make_family("qwen2_5_vl"), tmp_path / "old")
    apart(folder)
    family, images = family_of(folder), ImagesConfig(max_pixels=100 * 784)
    for limits, tokens in ((OWN_LIMITS, 16), (images, 100)):
        chat, counter = (make(folder, family, limits) for make in (ChatProcessor, PromptCounter))
        encoded = chat.encode(messages(SAMPLE), [Image.new("RGB", (900, 900))])
        assert encoded.media["pixel_values"].shape[0] == 4 * tokens
        assert counter.prompt(SAMPLE, [(900, 900)]) == len(encoded.input_ids)


def test_the_blank_image_is_within_the_limits(make_family):
    folder = make_family("qwen2_5_vl")
    chat = ChatProcessor(folder, family_of(folder), ImagesConfig(min_pixels=9 * 784))
    assert (chat.blank().input_ids == chat.vision_tokens[0]).sum() == 9


WRONG = [
    ("qwen2_5_vl", {"max_tiles": 6}, "images.max_tiles = 6: is no limit of qwen2_5_vl, which takes min_pixels and max_pixels. Leave it out"),
    ("internvl", {"max_pixels": 10**6}, "images.max_pixels = 1000000: is no limit of internvl, which takes max_tiles. Leave it out"),
    ("qwen3_vl", {"max_pixels": 60_000}, "images.max_pixels = 60000: the model's folder wants at least 65536 pixels. Write both"),
    ("qwen3_vl", {"min_pixels": 2**25}, "images.min_pixels = 33554432: the model's folder wants at most 16777216 pixels. Write both"),
    ("qwen3_vl", {"min_pixels": 1, "max_pixels": 1000}, "images.max_pixels = 1000: is less than one token of the model, 32 x 32 pixels. Write 1024"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "limits", "said"), WRONG)
def test_limits_that_a_model_does_not_take(name, limits, said):
    with pytest.raises(ValueError) as caught:
        FAMILIES[name].image_settings(limits, RELEASED[name])
    assert str(caught.value).startswith(said)


def test_fewer_tiles_than_the_model_wants():
    with pytest.raises(ValueError, match=r"images\.max_tiles = 2: the model's folder wants 3 at least\. Raise it\."):
        FAMILIES["internvl"].image_settings({"max_tiles": 2}, {"min_patches": 3})
