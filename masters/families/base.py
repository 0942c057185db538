"""What Masters must know of a family of vision-language models, without torch: names, scopes, tokens."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

MaskScope = Literal["linear", "language_model", "all"]
NOTHING = r"$^"


@dataclass(frozen=True)
class Piece:
    """Where a file's tensor lies in a parameter, both flattened: `numel` weights from `start` on."""

    parameter: str
    start: int
    numel: int


@dataclass(frozen=True)
class Experts:
    """How files hold mixture-of-experts weights, which transformers keeps in two parameters a layer: gate_up_proj and down_proj.

    Attributes:
        stacked: tensors of shape [experts, ...]: one threshold for each expert.
        single: tensors of one expert, with groups `stem`, `expert` and `matrix` (gate, up or down): pieces of a parameter.
        turned: stacked tensors are [experts, in, out] in files, [experts, out, in] in parameters.
    """

    stacked: str = NOTHING
    single: str = NOTHING
    turned: bool = False


@dataclass(frozen=True)
class Family:
    """Facts of one family. Patterns are searched (`re.search`) in tensor names *as the checkpoint files spell them*.

    Attributes:
        name: Hugging Face `model_type`.
        architecture: class name in the checkpoint's `architectures`.
        embeddings: token, position and patch embeddings, never in scope `linear`.
        head: the output projection, never in scope `linear`.
        vision: everything before the language model (tower and projector), out of scope `language_model`.
        projector: what brings the tower's features into the language model; in `vision`, too.
        image_placeholder: the text that stands for one image in a prompt.
        vision_tokens: tokens that the model would replace by image features, never valid in a response.
        end_of_turn: the token that ends an answer; it is trained on.
        image_tokens: how many tokens an image of (width, height) pixels takes, with the image processor's settings as its
            folder has them; raises ValueError for a shape that the processor refuses.
        limits: the limits of images that a recipe may give it.
        limited: what given limits change in the settings of a folder's image processor; raises ValueError for what leaves
            no image.
        renames: (pattern, replacement) pairs, the first that matches gives the name of the module's parameter.
        routers: mixture-of-experts routers, never in scope `linear`.
        experts: mixture-of-experts weights.
    """

    name: str
    architecture: str
    embeddings: str
    head: str
    vision: str
    projector: str
    image_placeholder: str
    vision_tokens: tuple[str, ...]
    end_of_turn: str
    image_tokens: Callable[[int, int, Mapping[str, Any]], int]
    limits: tuple[str, ...]
    limited: Callable[[Mapping[str, int], Mapping[str, Any]], dict[str, Any]]
    renames: tuple[tuple[str, str], ...] = ()
    routers: str = NOTHING
    experts: Experts = Experts()

    def image_settings(self, limits: Mapping[str, int], settings: Mapping[str, Any]) -> dict[str, Any]:
        """What a recipe's limits of images change in the settings of a folder's image processor; nothing without limits.

        Args:
            limits: those that are given, by name.
            settings: as the folder has them.

        Raises:
            ValueError: for a limit of another family, and for one that the folder's other settings contradict.
        """
        self.check_limits(limits)
        return self.limited(limits, settings) if limits else {}

    def check_limits(self, limits: Mapping[str, int]) -> None:
        """Raise ValueError for a limit of images that is another family's."""
        for name, value in limits.items():
            if name not in self.limits:
                raise ValueError(
                    f"images.{name} = {value}: is no limit of {self.name}, which takes {' and '.join(self.limits)}. "
                    "Leave it out, or write one of these."
                )

    def in_scope(self, file_name: str, shape: Sequence[int], scope: MaskScope) -> bool:
        """Whether the tensor is masked: weights of two or more dimensions; biases and norms never."""
        if len(shape) < 2 or not (file_name.endswith(".weight") or re.search(self.experts.stacked, file_name)):
            return False
        if scope == "all":
            return True
        if any(re.search(p, file_name) for p in (self.embeddings, self.head, self.routers)):
            return False
        return scope == "linear" or not re.search(self.vision, file_name)

    def part(self, name: str) -> Literal["tower", "projector", "language_model"]:
        """Which part of the model a tensor or parameter belongs to."""
        if re.search(self.projector, name):
            return "projector"
        return "tower" if re.search(self.vision, name) else "language_model"

    def slices(self, file_name: str, shape: Sequence[int]) -> int:
        """How many thresholds the tensor gets: the number of stacked experts, else 1."""
        return shape[0] if len(shape) > 2 and re.search(self.experts.stacked, file_name) else 1

    def turned(self, file_name: str) -> bool:
        """Whether a tensor's last two dimensions are swapped in its file."""
        return self.experts.turned and re.search(self.experts.stacked, file_name) is not None

    def piece(self, file_name: str, numel: int) -> Piece:
        """What the tensor of a checkpoint file becomes: a whole parameter, or one expert's part of a stacked one.

        A part of gate_up_proj lies behind those of the experts before it, two each; `up` behind its own `gate`.
        """
        found = re.search(self.experts.single, file_name)
        if found is None:
            return Piece(self.parameter_name(file_name), 0, numel)
        stem, expert, matrix = found["stem"], int(found["expert"]), found["matrix"]
        if matrix == "down":
            return Piece(self.parameter_name(f"{stem}.down_proj"), expert * numel, numel)
        return Piece(self.parameter_name(f"{stem}.gate_up_proj"), (2 * expert + (matrix == "up")) * numel, numel)

    def parameter_name(self, file_name: str) -> str:
        """The name of the Hugging Face parameter that a whole tensor of a checkpoint file becomes."""
        for pattern, replacement in self.renames:
            if re.search(pattern, file_name):
                return re.sub(pattern, replacement, file_name)
        return file_name
