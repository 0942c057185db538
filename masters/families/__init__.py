"""The families of models that Masters knows, by Hugging Face `model_type`."""

from masters.families.base import Family, MaskScope
from masters.families.qwen2_5_vl import QWEN2_5_VL

FAMILIES = {family.name: family for family in (QWEN2_5_VL,)}

__all__ = ["FAMILIES", "Family", "MaskScope"]
