"""The families of models that Masters knows, by Hugging Face `model_type`.

A new one, say `new_vl`, is one module of facts and its tests; in ten lines:

1. `families/new_vl.py`: a `Family`, from the names in the files of a released model, not from the parameters in memory.
2. Its name into `FAMILIES` below.
3. How its processor counts image tokens, and what limits of images change in it: functions in `families/images.py`.
4. `families/sizes.py`: what its config.json says of sizes; `families/released.py`: the models that people take.
5. `models/tiny_families.py`: a tiny one with the real architecture and the real processor.
6. `tests/unit/models/test_families.py` then checks by itself that every file name maps to a parameter or a piece of one,
   that every weight of two dimensions is in scope or named out of it, and that tokens of images are counted right.
7. `tests/engines/test_families.py`: masks in vLLM and ZeRO-3 against an exported folder, both engines against transformers.
8. Traps that others fell into: heads tied or not by the files rather than config.json, experts stacked in another order in
   files than in memory, position ids of one axis, token ids that differ from model to model.
"""

from masters.families.base import Family, MaskScope, Piece
from masters.families.internvl import INTERNVL
from masters.families.qwen2_5_vl import QWEN2_5_VL
from masters.families.qwen3_vl import QWEN3_VL, QWEN3_VL_MOE

FAMILIES = {family.name: family for family in (QWEN2_5_VL, QWEN3_VL, QWEN3_VL_MOE, INTERNVL)}

__all__ = ["FAMILIES", "Family", "MaskScope", "Piece"]
