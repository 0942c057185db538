"""Which weights are masked."""

from masters.config.base import Section, ours
from masters.families import MaskScope


class MaskConfig(Section):
    """Masking of the teachers (Eq. 1-2); the ratios belong to the curriculum."""

    scope: MaskScope = ours(
        "linear",
        "linear: every linear weight, no embeddings, output head or router; language_model: those of the language model; "
        "all: every weight of two or more dimensions.",
    )
