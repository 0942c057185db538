"""A vLLM weight loader that masks while it loads, and the worker method that switches the mask ratio in place.

vLLM imports this module in every worker process, because `WorkerExtension` below is named as `worker_extension_cls`; the
import registers the load format. Only `get_all_weights` is overridden: first load and reload both go through it, and it sees
the names and whole tensors of the checkpoint files, before anything is fused or split over GPUs.
"""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from vllm.model_executor import model_loader
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
from vllm.platforms import current_platform

from masters.models.thresholds import ThresholdsFile, mask_tensors

LOAD_FORMAT = "masters"


class MaskedModelLoader(DefaultModelLoader):
    """Reads `thresholds` (a path) and `ratio` from `model_loader_extra_config`."""

    def __init__(self, load_config: Any):
        extra = load_config.model_loader_extra_config
        plain = copy.copy(load_config)  # the default loader refuses formats and keys that it does not know
        plain.load_format, plain.model_loader_extra_config = "safetensors", {}
        super().__init__(plain)
        self._thresholds = ThresholdsFile.load(extra["thresholds"])
        self._ratio: str = extra["ratio"]
        self._thresholds.check_ratio(self._ratio)

    def get_all_weights(self, model_config: Any, model: nn.Module) -> Iterator[tuple[str, Tensor]]:
        """The checkpoint's tensors, masked. Raises ValueError where thresholds and checkpoint do not belong together."""
        unseen = set(self._thresholds.tensors)
        # Where they will lie in any case: a GPU masks them some hundred times as fast as a CPU.
        device = None if current_platform.is_cpu() else torch.device(current_platform.device_type)
        named = super().get_all_weights(model_config, model)
        for name, weight in mask_tensors(named, self._thresholds, self._ratio, device):
            unseen.discard(name)
            yield name, weight
        if unseen:
            raise ValueError(f"{sorted(unseen)[0]}: has thresholds and is not in the checkpoint")


class WorkerExtension:
    """Mixed into vLLM's worker."""

    def switch_mask(self, ratio: str) -> None:
        """Load the weights again, masked at another ratio, into the memory where they are."""
        worker: Any = self
        extra = {**worker.vllm_config.load_config.model_loader_extra_config, "ratio": ratio}
        worker.update_config({"load_config": {"model_loader_extra_config": extra}})
        if current_platform.is_cpu():
            _forget_expert_kernels(worker.model_runner.get_model())
        worker.reload_weights()


def _forget_expert_kernels(model: nn.Module) -> None:
    """Have vLLM pack experts' weights anew as they are loaded again: on CPUs it does so for a layer without a kernel only.

    Else it copies weights as they are over packed ones, in silence where both have as many bytes.
    """
    for module in model.modules():
        method: Any = getattr(module, "quant_method", None)
        if hasattr(method, "moe_kernel"):
            method.moe_kernel = None


if model_loader._LOAD_FORMAT_TO_MODEL_LOADER.get(LOAD_FORMAT) is not MaskedModelLoader:
    model_loader.register_model_loader(LOAD_FORMAT)(MaskedModelLoader)
