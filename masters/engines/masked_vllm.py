"""A vLLM engine of one model, whose mask ratio can be switched in place (a virtual snapshot of a masked teacher)."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL.Image import Image

from masters.config.engine import EngineConfig
from masters.config.images import OWN_LIMITS, ImagesConfig
from masters.config.resources import EngineResources
from masters.engines import driver
from masters.models.folder import family_of
from masters.models.image_limits import changed_settings
from masters.models.thresholds import UNMASKED


@dataclass(frozen=True)
class Request:
    """One prompt, already rendered by the chat template, with its images.

    `seed` is the seed of the first completion; the j-th one is sampled with `seed + j`. `rendered` is what an engine has made
    of prompt and images: token ids and pixels.
    """

    prompt: str
    images: Sequence[Image]
    seed: int
    rendered: Any = None


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


def engine_environment(gpus: float, resources: EngineResources) -> dict[str, str]:
    """Environment that must be set before vLLM is imported."""
    environment = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_USE_FLASHINFER_SAMPLER": "0",  # else an engine compiles a kernel as it starts, and images have no compiler
    }
    if gpus == 0:
        environment["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"  # else engines of one machine share the first core
        if not resources.compile:
            environment["TORCHDYNAMO_DISABLE"] = "1"  # a sampler kernel would compile for 20 s even so
    return environment


class MaskedEngine:
    """One engine in this process. Threads may share it: each gets the answers to its own batch.

    Args:
        folder: local model folder.
        config: dtype and longest sequence.
        resources: sizes that decide speed and memory only.
        gpus: tensor parallel size, or the share of one GPU; 0 runs on CPU.
        images_per_prompt: most images in a prompt.
        images: limits that images are seen within.
        thresholds: local thresholds file; None for a model that is never masked.
        ratio: mask ratio to start with, as written in level names; of no meaning without thresholds.
        quantization: vLLM's name of a method; not for a model that is masked.

    Raises:
        RuntimeError: where the driver is too old for the GPUs that are asked for.
        ValueError: for masks of quantised weights, and for limits that the model does not take.
    """

    def __init__(
        self,
        folder: Path,
        config: EngineConfig,
        resources: EngineResources,
        *,
        gpus: float = 0,
        images_per_prompt: int = 1,
        images: ImagesConfig = OWN_LIMITS,
        thresholds: Path | None = None,
        ratio: str = UNMASKED,
        quantization: str | None = None,
    ):
        if gpus > 0:
            driver.check_installed()
        if thresholds is not None and quantization is not None:
            raise ValueError(
                f"quantization {quantization}: masks need the weights of the checkpoint. Leave it out for a model that is masked."
            )
        processor_options = _processor_options(folder, images)
        from vllm import LLM

        from masters.engines.allowed_tokens import PROCESSOR

        options = {} if thresholds is None else _masking_options(thresholds, ratio)
        if gpus == 0:
            options["kv_cache_memory_bytes"] = int(resources.kv_cache_gib * 2**30)
            # A prompt prefilled in pieces makes vLLM rewind a seeded generator, which CPU generators cannot do.
            options["enable_chunked_prefill"] = False
            options["max_num_batched_tokens"] = max(resources.max_num_batched_tokens or 8192, config.max_model_len)
        else:
            options["tensor_parallel_size"] = max(1, int(gpus))
            options["gpu_memory_utilization"] = resources.gpu_memory_utilization * min(1, gpus)
            options["max_num_batched_tokens"] = resources.max_num_batched_tokens
        self._llm = LLM(
            str(folder),
            dtype=config.dtype,
            max_model_len=config.max_model_len,
            max_num_seqs=resources.max_num_seqs,
            enforce_eager=not resources.compile,
            limit_mm_per_prompt={"image": max(1, images_per_prompt), "video": 0},
            mm_processor_kwargs=processor_options,
            mm_encoder_tp_mode=resources.mm_encoder_tp_mode,
            quantization=quantization,
            logits_processors=[PROCESSOR],
            seed=0,
            disable_log_stats=True,
            **options,
        )
        self._masked = thresholds is not None
        self.ratio = ratio if self._masked else UNMASKED
        self._slots = resources.max_num_seqs
        self._stepping = threading.Lock()
        self._asked = 0
        self._finished: dict[str, Any] = {}  # outputs whose thread has not come for them
        self._tokens, self._slot_seconds = 0, 0.0

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

    def prepare(self, requests: Sequence[Request]) -> list[Request]:
        """The same requests, rendered: what costs a CPU and no engine. One thread at a time, beside others that generate."""
        rendered = []
        for request in requests:
            prompt: dict[str, Any] = {"prompt": request.prompt}
            if request.images:
                prompt["multi_modal_data"] = {"image": list(request.images)}
            # Pixels come along each time: the engine's own cache has not what was rendered ahead and then not asked.
            (made,) = self._llm.llm_engine.renderer.render_cmpl([prompt], skip_mm_cache=True)
            rendered.append(replace(request, images=(), rendered=made))
        return rendered

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """`sampling.count` completions for each request, in the order of the requests; those not rendered yet are."""
        engine = self._llm.llm_engine
        prepared = [request if request.rendered is not None else self.prepare([request])[0] for request in requests]
        with self._stepping:
            names = [str(self._asked + number) for number in range(len(prepared))]
            self._asked += len(prepared)
            for name, request in zip(names, prepared, strict=True):
                engine.add_request(name, request.rendered, _parameters(sampling, request.seed))
        open_ = set(names)
        while open_:
            with self._stepping:  # whoever has the lock steps for all
                open_ -= self._finished.keys()
                if open_:
                    self._step()
        with self._stepping:
            outputs = [self._finished.pop(name) for name in names]
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
            for request, output in zip(prepared, outputs, strict=True)
        ]

    def used(self) -> tuple[int, float]:
        """Since the last time: generated tokens, and seconds of full use of all the sequences that are decoded at once."""
        with self._stepping:
            found = self._tokens, self._slot_seconds
            self._tokens, self._slot_seconds = 0, 0.0
        return found

    def _step(self) -> None:
        """One more token for every sequence that fits; outputs that are whole are kept for their threads."""
        engine, began = self._llm.llm_engine, time.monotonic()
        busy = min(engine.get_num_unfinished_requests(), self._slots) / self._slots
        for output in engine.step():
            if output.finished:
                self._finished[output.request_id] = output
                self._tokens += sum(len(choice.token_ids) for choice in output.outputs)
        self._slot_seconds += busy * (time.monotonic() - began)

    def close(self) -> None:
        """Free the model's memory, so that another engine can start in this process."""
        from vllm.distributed import cleanup_dist_env_and_memory

        self._llm.llm_engine.engine_core.shutdown()
        del self._llm
        cleanup_dist_env_and_memory()


def _masking_options(thresholds: Path, ratio: str) -> dict[str, Any]:
    from masters.engines.masked_loader import LOAD_FORMAT

    return {
        "load_format": LOAD_FORMAT,
        "model_loader_extra_config": {"thresholds": str(thresholds), "ratio": ratio},
        "worker_extension_cls": "masters.engines.masked_loader.WorkerExtension",
    }


def _processor_options(folder: Path, images: ImagesConfig) -> dict[str, Any] | None:
    """Limits of images as vLLM gives them to the model's processor."""
    if not images.given:
        return None
    changes = changed_settings(folder, family_of(folder), images)
    options = {name: value for name, value in changes.items() if value is not None}
    # A size would else be the video processor's, too, and vLLM divides by zero where that is small. Of tiles it asks the
    # processor that was made with what is outside.
    return {"images_kwargs": options} if "size" in options else options


def _parameters(sampling: Sampling, seed: int) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        n=sampling.count,
        seed=seed,
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        repetition_penalty=sampling.repetition_penalty,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
