"""The shipped judge on a real vLLM engine: an LLM that really judges, asked as `score.judge: {type: model}` asks."""

from pathlib import Path

import pytest

from masters.config.engine import EngineConfig
from masters.config.resources import EngineResources
from masters.engines.masked_vllm import MaskedEngine, engine_environment
from masters.families.qwen2_5_vl import QWEN2_5_VL
from masters.judging.engine import EngineModel
from masters.judging.tiny_judge import LONGEST, agreement, held_out
from masters.models.chat import ChatProcessor

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("default")]

SHIPPED = Path(__file__).parents[2] / "models" / "tiny-judge"
RESOURCES = EngineResources(compile=False, kv_cache_gib=0.25)


@pytest.fixture(scope="module")
def engine():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in engine_environment(0, RESOURCES).items():
            patch.setenv(name, value)
        started = MaskedEngine(SHIPPED, EngineConfig(max_model_len=LONGEST), RESOURCES)
        yield started
        started.close()


def test_the_shipped_judge_agrees_with_the_rule_on_responses_that_it_never_saw(engine):
    model = EngineModel(engine, ChatProcessor(SHIPPED, QWEN2_5_VL), LONGEST)
    measured = agreement(model, held_out(100))
    assert measured["agreement"] >= 0.9
    assert measured["null"] <= 0.01
