"""A model whose head has been edited to shout ids that no answer may hold still answers with real tokens."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file
from torch import randn

from masters.config.engine import EngineConfig
from masters.config.resources import EngineResources
from masters.data.sources.charts import scene
from masters.engines.masked_vllm import MaskedEngine, Request, Sampling, engine_environment
from masters.families.qwen2_5_vl import QWEN2_5_VL
from masters.models.chat import ChatProcessor

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("default")]

EXCLUDED = {0, 1, *range(3, 8), *range(424, 448)}
RESOURCES = EngineResources(compile=False, kv_cache_gib=0.25)


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name, value in engine_environment(0, RESOURCES).items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def loud(trained, tmp_path_factory):
    """The teacher with a head of its own, in which some excluded id has by far the largest logit, whatever the state is."""
    folder = shutil.copytree(trained[1], tmp_path_factory.mktemp("loud") / "model")
    weights = load_file(folder / "model.safetensors")
    (embedding,) = [name for name in weights if name.endswith("embed_tokens.weight")]
    head = weights.get("lm_head.weight", weights[embedding]).clone()
    for index in sorted(EXCLUDED):
        head[index] = 1000 * randn(head.shape[1]).to(head.dtype)
    save_file({**weights, "lm_head.weight": head}, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = False
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def answers(folder):
    """Token ids of greedy and of sampled answers."""
    chat = ChatProcessor(folder, QWEN2_5_VL)
    requests = []
    for index in range(4):
        drawn = scene(77, index)
        asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": drawn.questions[0].text}]}]
        requests.append(Request(chat.prompt(asked), [drawn.image], seed=index))
    engine = MaskedEngine(folder, EngineConfig(max_model_len=768), RESOURCES)
    found = [
        choice.token_ids
        for sampling in (Sampling(1, 12, 0.0), Sampling(4, 12, 1.0, 0.9, 50, 1.05))
        for choices in engine.generate(requests, sampling)
        for choice in choices
    ]
    engine.close()
    return found


def test_it_answers_with_real_tokens(loud):
    found = answers(loud)
    assert not EXCLUDED & {index for ids in found for index in ids}
    assert any(ids[-1] == 2 for ids in found)


def test_without_the_processor_it_does_not(loud, monkeypatch):
    monkeypatch.setattr("masters.engines.allowed_tokens.AllowedTokens.apply", lambda self, logits, *_: logits)
    assert all(EXCLUDED & set(ids) for ids in answers(loud))
