"""Where samples come from. Every source names its rows; a sample's id is `<source>/<row id>`."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from masters.config.base import Name, Section, ours

Split = Literal["train", "validation", "test"]
AnswerType = Literal["text", "number"]


def _on_a_file_system(path: str) -> str:
    if "://" in path:
        raise ValueError(
            "is no path of this machine's file system. "
            "Mount it, or copy it to a volume that all machines share; only `storage` may be s3:// or gs://."
        )
    return path


LocalPath = Annotated[str, AfterValidator(_on_a_file_system)]
"""A file or folder that readers open: they know no object stores."""


class ChartsSource(Section):
    """Charts and shapes drawn by Masters, with questions; splits have disjoint images."""

    type: Literal["charts"]
    name: Name = "charts"
    seed: int = ours(0, "Seed of the first image; another seed gives other images.", ge=0, le=999)
    train_images: int = ours(800, "Images of the train split.", ge=0, le=1_000_000)
    validation_images: int = ours(0, "Images of the validation split.", ge=0, le=1_000_000)
    test_images: int = ours(200, "Images of the test split.", ge=0, le=1_000_000)
    questions_per_image: int = ours(3, "Questions asked of each image.", ge=1, le=8)


class RowDefaults(Section):
    """What applies to every row of a source that does not say otherwise itself."""

    split: Split = ours("train", "Split of rows without a `split` of their own.")
    answer_type: AnswerType = ours(
        "text", "`number` allows the numeric tolerance; for rows without a type of their own."
    )


class LlavaSource(RowDefaults):
    """LLaVA-style JSON or JSONL: `id`, `image` or `images` (a path or a list), `conversations`."""

    type: Literal["llava"]
    name: Name
    path: LocalPath = Field(description="The .json or .jsonl file.")
    image_root: LocalPath = ours("", "Folder that image paths are relative to; the folder of `path` where empty.")


class TableSource(RowDefaults):
    """Parquet files, or a folder that Hugging Face `datasets` wrote, with image bytes in a column."""

    type: Literal["parquet", "datasets"] = Field(
        description="parquet: files; datasets: a folder that save_to_disk wrote."
    )
    name: Name
    path: LocalPath = Field(description="A file or a folder.")
    id: str = ours("id", "Column with the row's id.")
    question: str = ours("question", "Column with the question.")
    answer: str = ours("answer", "Column with the answer: a string, or a list of accepted phrasings.")
    images: str = ours("image", "Column with image bytes, or a list of them; absent in text-only data.")
    system: str = ours("system", "Column with a system prompt, if there is one.")


class CustomSource(RowDefaults):
    """A function of your own: `module:function`, called with `options`, yields masters.data.rows.RawRow."""

    type: Literal["custom"]
    name: Name
    reader: str = Field(pattern=r"^[\w.]+:\w+$", description="module:function")
    options: dict[str, Any] = Field(default_factory=dict, description="Passed to the function as keywords.")


Source = Annotated[ChartsSource | LlavaSource | TableSource | CustomSource, Field(discriminator="type")]


class PrepareConfig(Section):
    """Reading, checking and ordering of samples."""

    sources: tuple[Source, ...] = Field(min_length=1, description="Where samples come from.")
    max_reject_ratio: float = ours(0.01, "More rejected rows than this share of all rows stop the run.", ge=0, le=1)
    max_image_pixels: int = ours(50_000_000, "Larger images are rejected.", ge=1)
