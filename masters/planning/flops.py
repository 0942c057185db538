"""Floating-point operations of a group: a question with its responses, through teacher, reference and student.

Two for a weight and a token; four for a pair of tokens that see each other, a layer and a number of a head. Norms, activations
and the softmax are left out: they take time by their bytes.
"""

from dataclasses import dataclass

from masters.families.sizes import ModelSize, Tower


@dataclass(frozen=True)
class GroupShape:
    """A question with its responses, in tokens.

    Attributes:
        prompt: image tokens included.
        image: tokens of images.
        responses: how many.
        length: of a response.
        packed: all responses in one row behind the prompt; else a row of its own for each, prompt and image repeated.
        towers: how often the image goes through the tower; packing does it once.
    """

    prompt: float
    image: float
    responses: int
    length: float
    packed: bool = True

    @property
    def tokens(self) -> float:
        """That the models compute."""
        return self.prompt * (1 if self.packed else self.responses) + self.trained

    @property
    def trained(self) -> float:
        """Tokens of the responses."""
        return self.responses * self.length

    @property
    def pairs(self) -> float:
        """Pairs of tokens of which one sees the other."""
        alone = self.prompt**2 / 2
        behind = self.length * self.prompt + self.length**2 / 2
        return alone * (1 if self.packed else self.responses) + self.responses * behind

    @property
    def towers(self) -> int:
        """How often the image goes through the tower."""
        return 1 if self.packed else self.responses


def decoding(size: ModelSize, tokens: float, pairs: float) -> float:
    """Forward of the language model without its head."""
    decoder = size.decoder
    products = 2 * decoder.layers * decoder.layer_matrices * tokens
    return products + 4 * decoder.layers * decoder.heads * decoder.head_size * pairs


def seeing(tower: Tower, image_tokens: float) -> float:
    """Forward of the tower for one image of so many tokens."""
    patches = tower.patches * image_tokens
    windows = (tower.layers - tower.full_layers) * patches * min(tower.window, patches)
    seen = tower.full_layers * patches**2 + windows
    products = (tower.layers * tower.layer_matrices + tower.embedding) * patches + tower.projector * image_tokens
    return 2 * products + 4 * tower.hidden * seen


def forward(size: ModelSize, shape: GroupShape) -> float:
    """Forward of a group, without the head."""
    return decoding(size, shape.tokens, shape.pairs) + shape.towers * seeing(size.tower, shape.image)


def objective(
    student: ModelSize, teacher: ModelSize | None, shape: GroupShape, *, reference: bool, twice: bool
) -> float:
    """Products with the heads: one for each model, two for the gradient; `twice`: student's and teacher's again."""
    unit = 2 * shape.trained * student.decoder.vocabulary
    own, theirs = student.decoder.hidden, teacher.decoder.hidden if teacher else 0
    products = 3 * own + theirs + (own if reference else 0) + (own + theirs if twice else 0)
    return unit * products


@dataclass(frozen=True)
class GroupFlops:
    """Of one group, by what they are for."""

    teacher: float
    reference: float
    student: float
    objective: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.teacher + self.reference + self.student + self.objective


def group_flops(
    student: ModelSize,
    teacher: ModelSize | None,
    shape: GroupShape,
    *,
    reference: bool,
    checkpointing: bool,
    twice: bool,
) -> GroupFlops:
    """Of a training step's group. Backward is two forwards, activation checkpointing one more."""
    once = forward(student, shape)
    return GroupFlops(
        teacher=forward(teacher, shape) if teacher else 0.0,
        reference=once if reference else 0.0,
        student=(4 if checkpointing else 3) * once,
        objective=objective(student, teacher, shape, reference=reference, twice=twice),
    )
