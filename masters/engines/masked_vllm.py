"""A vLLM engine of one model, whose mask ratio can be switched in place (a virtual snapshot of a masked teacher)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL.Image import Image

from masters.config.engine import EngineConfig
from masters.config.resources import EngineResources
from masters.models.thresholds import UNMASKED


@dataclass(frozen=True)
class Request:
    """One prompt, already rendered by the chat template, with its images.

    `seed` is the seed of the first completion; the j-th one is sampled with `seed + j`.
    """

    prompt: str
    images: Sequence[Image]
    seed: int


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. Temperature 0 is greedy."""

    count: int
    max_tokens: int
    temperature: float
    top_p: float = 1.0
    top_k: int = -1
    repetition_penalty: float = 1.0


@dataclass(frozen=True)
class Completion:
    """One answer. `finish_reason` is `stop`, then the end-of-turn token is the last of `token_ids`, or `length`."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    seed: int


def engine_environment(gpus: int, resources: EngineResources) -> dict[str, str]:
    """Environment that must be set before vLLM is imported."""
    environment = {"VLLM_NO_USAGE_STATS": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    if gpus == 0:
        environment["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"  # else engines of one machine share the first core
        if not resources.compile:
            environment["TORCHDYNAMO_DISABLE"] = "1"  # a sampler kernel would compile for 20 s even so
    return environment


class MaskedEngine:
    """One engine in this process. It answers batches; nothing else may use it meanwhile.

    Args:
        folder: local model folder.
        config: dtype and longest sequence.
        resources: sizes that decide speed and memory only.
        gpus: tensor parallel size; 0 runs on CPU.
        images_per_prompt: most images in a prompt.
        thresholds: local thresholds file; None for a model that is never masked.
        ratio: mask ratio to start with, as written in level names; of no meaning without thresholds.
    """

    def __init__(
        self,
        folder: Path,
        config: EngineConfig,
        resources: EngineResources,
        *,
        gpus: int = 0,
        images_per_prompt: int = 1,
        thresholds: Path | None = None,
        ratio: str = UNMASKED,
    ):
        from vllm import LLM

        options: dict[str, Any] = {}
        if thresholds is not None:
            from masters.engines.masked_loader import LOAD_FORMAT

            options["load_format"] = LOAD_FORMAT
            options["model_loader_extra_config"] = {"thresholds": str(thresholds), "ratio": ratio}
            options["worker_extension_cls"] = "masters.engines.masked_loader.WorkerExtension"
        if gpus == 0:
            options["kv_cache_memory_bytes"] = int(resources.kv_cache_gib * 2**30)
            # A prompt prefilled in pieces makes vLLM rewind a seeded generator, which CPU generators cannot do.
            options["enable_chunked_prefill"] = False
            options["max_num_batched_tokens"] = max(8192, config.max_model_len)
        else:
            options["tensor_parallel_size"] = gpus
            options["gpu_memory_utilization"] = resources.gpu_memory_utilization
        self._llm = LLM(
            str(folder),
            dtype=config.dtype,
            max_model_len=config.max_model_len,
            max_num_seqs=resources.max_num_seqs,
            enforce_eager=not resources.compile,
            limit_mm_per_prompt={"image": max(1, images_per_prompt), "video": 0},
            seed=0,
            disable_log_stats=True,
            **options,
        )
        self._masked = thresholds is not None
        self.ratio = ratio if self._masked else UNMASKED

    def switch(self, ratio: str) -> None:
        """Mask at another ratio, in place. No request may be in flight."""
        if ratio == self.ratio:
            return
        assert self._masked, "an engine without thresholds has one ratio"
        self._llm.collective_rpc("switch_mask", args=(ratio,))
        self.ratio = ratio
        self.reset_caches()

    def reset_caches(self) -> None:
        """Forget attention states and image features. After a switch they belong to other weights: outputs would be stale."""
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("the prefix cache was not reset: a request is in flight")
        self._llm.llm_engine.reset_encoder_cache()

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """`sampling.count` completions for each request, in the order of the requests."""
        from vllm import SamplingParams

        prompts, parameters = [], []
        for request in requests:
            prompt: dict[str, Any] = {"prompt": request.prompt}
            if request.images:
                prompt["multi_modal_data"] = {"image": list(request.images)}
            prompts.append(prompt)
            parameters.append(
                SamplingParams(
                    n=sampling.count,
                    seed=request.seed,
                    max_tokens=sampling.max_tokens,
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    top_k=sampling.top_k,
                    repetition_penalty=sampling.repetition_penalty,
                )
            )
        outputs = self._llm.generate(prompts, parameters, use_tqdm=False)
        return [
            [
                Completion(
                    choice.text,
                    tuple(choice.token_ids),
                    choice.finish_reason or "length",
                    request.seed + choice.index,
                )
                for choice in sorted(output.outputs, key=lambda choice: choice.index)
            ]
            for request, output in zip(requests, outputs, strict=True)
        ]

    def close(self) -> None:
        """Free the model's memory, so that another engine can start in this process."""
        from vllm.distributed import cleanup_dist_env_and_memory

        self._llm.llm_engine.engine_core.shutdown()
        del self._llm
        cleanup_dist_env_and_memory()
