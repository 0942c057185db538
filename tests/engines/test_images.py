"""Limits of images in a real vLLM engine: the prompt and the pixels that training sees, for every family."""

import pytest
import torch

from masters.config.engine import EngineConfig
from masters.config.images import ImagesConfig
from masters.config.resources import EngineResources
from masters.data.sources.charts import scene
from masters.engines.masked_vllm import MaskedEngine, Request, Sampling, engine_environment
from masters.models.chat import ChatProcessor
from masters.models.folder import family_of
from masters.models.prompts import PromptCounter, messages

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("default")]

RESOURCES = EngineResources(compile=False, kv_cache_gib=0.25)
CONFIG = EngineConfig(max_model_len=768, dtype="float32")
KINDS = {
    "qwen2_5_vl": ImagesConfig(min_pixels=20 * 28 * 28, max_pixels=30 * 28 * 28),
    "qwen3_vl": ImagesConfig(max_pixels=5 * 32 * 32),
    "internvl3_5": ImagesConfig(max_tiles=2),
}
SIZES = [(40, 40), (300, 200), (90, 400)]
SAMPLE = {"system": None, "history": [], "question": "What is it?", "image_ids": ["a"]}


@pytest.fixture(scope="module", autouse=True)
def _environment():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in engine_environment(0, RESOURCES).items():
            patch.setenv(name, value)
        yield


def picture(size):
    return scene(77, sum(size)).image.resize(size)


def normalised(pixels, chat):
    """vLLM leaves Qwen's patches as bytes, [patches, colours x ...], and brings them to the model's scale on its device."""
    if pixels.dtype != torch.uint8:
        return pixels
    own = chat.processor.image_processor
    mean, std = (torch.tensor(values)[None, :, None] for values in (own.image_mean, own.image_std))
    return ((pixels.unflatten(1, (3, -1)) / 255 - mean) / std).flatten(1)


@pytest.fixture(scope="module", params=KINDS)
def limited(request, make_family):
    """(folder, limits, what the engine makes of each prompt, an answer)."""
    folder, images = make_family(request.param), KINDS[request.param]
    engine, chat = MaskedEngine(folder, CONFIG, RESOURCES, images=images), ChatProcessor(folder, family_of(folder))
    prompts = [Request(chat.prompt(messages(SAMPLE)), [picture(size)], 0) for size in SIZES]
    rendered = [request.rendered for request in engine.prepare(prompts)]
    answers = engine.generate(prompts[:1], Sampling(count=1, max_tokens=4, temperature=0.0))
    engine.close()
    return folder, images, rendered, answers[0][0]


def test_an_engine_within_limits_is_given_what_training_sees(limited):
    folder, images, rendered, answer = limited
    within, without = (ChatProcessor(folder, family_of(folder), each) for each in (images, ImagesConfig()))
    counter = PromptCounter(folder, family_of(folder), images)
    lengths = {True: [], False: []}
    for size, made in zip(SIZES, rendered, strict=True):
        encoded = within.encode(messages(SAMPLE), [picture(size)])
        assert made["prompt_token_ids"] == encoded.input_ids.tolist(), size
        assert counter.prompt(SAMPLE, [size]) == len(encoded.input_ids), size
        pixels = made["mm_kwargs"].get_data()["pixel_values"]
        assert torch.allclose(normalised(pixels, within), encoded.media["pixel_values"], rtol=0, atol=2e-6), size
        lengths[True].append(len(encoded.input_ids))
        lengths[False].append(len(without.encode(messages(SAMPLE), [picture(size)]).input_ids))
    assert lengths[True] != lengths[False]  # or the limits would change nothing here
    assert answer.token_ids


def test_limits_of_another_family_start_no_engine(make_family):
    with pytest.raises(ValueError, match=r"images\.max_tiles = 6: is no limit of qwen2_5_vl, which takes min_pixels"):
        MaskedEngine(make_family("qwen2_5_vl"), CONFIG, RESOURCES, images=ImagesConfig(max_tiles=6))
