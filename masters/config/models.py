"""The student and the curriculum of teachers."""

from decimal import Decimal

from pydantic import Field

from masters.algo.schedule import mask_ratios, ratio_key
from masters.config.base import Name, Ratio, Section, ours, paper


class ModelConfig(Section):
    """A model: a Hugging Face folder or the name of a model on the hub."""

    path: str = Field(min_length=1, description="A local folder, or a name on the Hugging Face hub.")
    gpus_per_engine: int = ours(
        0, "GPUs of one vLLM engine of this model (tensor parallel); 0 runs on CPU.", ge=0, le=64
    )


class TeacherConfig(ModelConfig):
    """One teacher of the curriculum, with its own mask schedule (Eq. 3)."""

    alias: Name = Field(description="Short name; levels are written <alias>@r0.20.")
    r_max: Ratio = paper(
        Decimal("0.2"), "Table 5a; 0.4 for Qwen3-VL-32B and InternVL3.5-8B/-14B", "Largest mask ratio."
    )
    mask_step: Ratio = paper(Decimal("0.05"), "4.1", "Decrement of the mask ratio from level to level.", gt=0)

    @property
    def ratio_keys(self) -> tuple[str, ...]:
        """The mask ratios of its levels in order, as they are written everywhere: 0.20, ..., 0.00."""
        return tuple(map(ratio_key, mask_ratios(self.r_max, self.mask_step)))
