"""What vLLM is told of GPUs, sizes and quantisation; no GPU is here, so that LLM only listens."""

import pytest

from masters.config.engine import EngineConfig
from masters.config.resources import EngineResources
from masters.engines import driver
from masters.engines.masked_vllm import MaskedEngine, engine_environment

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize(
    ("gpus", "resources", "quantization", "told"),
    [
        (1, {}, None, {"tensor_parallel_size": 1, "gpu_memory_utilization": 0.9, "max_num_batched_tokens": None}),
        (4, {"mm_encoder_tp_mode": "data"}, None, {"tensor_parallel_size": 4, "mm_encoder_tp_mode": "data"}),
        (0.5, {"gpu_memory_utilization": 0.8}, None, {"tensor_parallel_size": 1, "gpu_memory_utilization": 0.4}),
        (1, {"max_num_batched_tokens": 2048}, "mxfp8", {"max_num_batched_tokens": 2048, "quantization": "mxfp8"}),
        # prompts are not cut on CPU, so that the longest one must fit
        (0, {"max_num_batched_tokens": 64}, None, {"max_num_batched_tokens": 768, "enable_chunked_prefill": False}),
        (0, {}, None, {"max_num_batched_tokens": 8192, "mm_encoder_tp_mode": "weights", "quantization": None}),
    ],
)
def test_recipes_reach_vllm(gpus, resources, quantization, told, tmp_path, monkeypatch):
    options = {}
    monkeypatch.setattr(driver, "check_installed", lambda: None)
    monkeypatch.setattr("vllm.LLM", lambda folder, **given: options.update(given))
    MaskedEngine(
        tmp_path, EngineConfig(max_model_len=768), EngineResources(**resources), gpus=gpus, quantization=quantization
    )
    assert {name: options.get(name) for name in told} == told


@pytest.mark.parametrize("gpus", [0, 0.5, 2])
def test_no_sampler_is_compiled_as_an_engine_starts(gpus):
    assert engine_environment(gpus, EngineResources())["VLLM_USE_FLASHINFER_SAMPLER"] == "0"
