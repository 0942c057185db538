"""How large an image may be for the models: one truth for prepare, engines and train."""

from masters.config.base import Section, ours


class ImagesConfig(Section):
    """Limits that every model of a run sees images within; what is left out is as the model's own folder says.

    Qwen's families take pixels, InternVL takes tiles.
    """

    min_pixels: int | None = ours(
        None, "Qwen: smaller images are enlarged to this many pixels; left out: the model's own.", ge=1
    )
    max_pixels: int | None = ours(
        None, "Qwen: larger images are reduced to this many pixels; left out: the model's own.", ge=1
    )
    max_tiles: int | None = ours(
        None, "InternVL: most tiles of an image, beside its thumbnail; left out: the model's own.", ge=1, le=40
    )

    @property
    def given(self) -> dict[str, int]:
        """The limits that are not left out, by name."""
        return self.model_dump(exclude_none=True)

    @property
    def parts(self) -> dict[str, dict[str, int]]:
        """What digests hold of them: nothing where all are left out."""
        return {"images": self.given} if self.given else {}


OWN_LIMITS = ImagesConfig()
"""Those of each model's folder."""
