"""The student and the curriculum of teachers."""

from decimal import Decimal
from typing import Literal

from pydantic import Field, field_validator

from masters.algo.schedule import mask_ratios, ratio_key
from masters.config.base import Name, Ratio, Section, ours, paper

Quantization = Literal["fp8_per_tensor", "fp8_per_block", "fp8_per_channel", "int8_per_channel_weight_only", "mxfp8"]
"""vLLM's names of the methods that need no checkpoint of their own."""


class ModelConfig(Section):
    """A model: a Hugging Face folder or the name of a model on the hub."""

    path: str = Field(min_length=1, description="A local folder, or a name on the Hugging Face hub.")
    gpus_per_engine: int | float = ours(
        0,
        "GPUs of one vLLM engine of this model (tensor parallel), or a part of one, as 0.5; 0 runs on CPU.",
        ge=0,
        le=64,
    )
    quantization: Quantization | None = ours(
        None,
        "How a vLLM engine compresses the weights as it loads them; left out: as the folder has them. Not for teachers.",
    )

    @field_validator("gpus_per_engine")
    @classmethod
    def _whole_or_shared(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError("is neither a whole number nor a fraction of one GPU. Round it up.")
        return int(gpus) if gpus == int(gpus) else gpus


class TeacherConfig(ModelConfig):
    """One teacher of the curriculum, with its own mask schedule (Eq. 3)."""

    alias: Name = Field(description="Short name; levels are written <alias>@r0.20.")
    r_max: Ratio = paper(
        Decimal("0.2"), "Table 5a; 0.4 for Qwen3-VL-32B and InternVL3.5-8B/-14B", "Largest mask ratio."
    )
    mask_step: Ratio = paper(Decimal("0.05"), "4.1", "Decrement of the mask ratio from level to level.", gt=0)

    @field_validator("quantization")
    @classmethod
    def _unquantised(cls, quantization: str | None) -> None:
        if quantization is not None:
            raise ValueError("a teacher is masked, which needs the weights of its checkpoint. Leave it out.")

    @property
    def ratio_keys(self) -> tuple[str, ...]:
        """The mask ratios of its levels in order, as they are written everywhere: 0.20, ..., 0.00."""
        return tuple(map(ratio_key, mask_ratios(self.r_max, self.mask_step)))
