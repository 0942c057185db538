"""Where samples come from. Every source names its rows; a sample's id is `<source>/<row id>`."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from masters.config.base import Folder, Name, Section, folder_or_address, ours

Split = Literal["train", "validation", "test"]
AnswerType = Literal["text", "number", "integer", "choice"]
FileKind = Literal["json", "jsonl", "parquet", "arrow", "tsv", "webdataset"]

ImageRoot = Annotated[str, AfterValidator(lambda value: folder_or_address(value) if value else value)]
"""A folder, an address of one, or empty."""


def _once(weight: float) -> float:
    if weight > 1:
        raise ValueError(
            "is more than 1, and no row is asked twice. Give the other sources less instead, or name this one a second time."
        )
    return weight


def _words(suffix: str) -> str:
    if not suffix.strip() or "<image>" in suffix:
        raise ValueError("is no text to end a question with. Write words, or leave it out.")
    return suffix


class Mixed(Section):
    """How much of a source is used, and how its questions end. Which rows are used, the seed and their ids decide."""

    weight: Annotated[float, Field(gt=0), AfterValidator(_once)] = ours(
        1.0, "About this share of the train rows is used; the others are not even checked."
    )
    limit: int | None = ours(None, "At most so many rows of each split are used, of those that can be.", ge=1)
    prompt_suffix: Annotated[str, AfterValidator(_words)] | None = ours(
        None,
        "Line behind each question that does not end so, for example: Answer with a single word or phrase. Earlier turns "
        "get none, nor do options that are listed by `choices`, which has its instruction.",
    )


class ChartsSource(Mixed):
    """Charts and shapes drawn by Masters, with questions; splits have disjoint images."""

    type: Literal["charts"]
    name: Name = "charts"
    seed: int = ours(0, "Seed of the first image; another seed gives other images.", ge=0, le=999)
    train_images: int = ours(800, "Images of the train split.", ge=0, le=1_000_000)
    validation_images: int = ours(0, "Images of the validation split.", ge=0, le=1_000_000)
    test_images: int = ours(200, "Images of the test split.", ge=0, le=1_000_000)
    questions_per_image: int = ours(3, "Questions asked of each image.", ge=1, le=8)


class RowDefaults(Mixed):
    """What applies to every row of a source that does not say otherwise itself."""

    split: Split = ours(
        "train",
        "Split of rows without one in a field. Where it is set, it goes before names of files and folders, which may then say "
        "one split only; where it is left out, they go before it.",
    )
    answer_type: AnswerType = ours(
        "text",
        "Of rows without a type of their own. number: may differ by score.numeric_tolerance; integer: a count or a year, "
        "exact; choice: one of the options.",
    )
    image_root: ImageRoot = ours(
        "", "Folder, s3:// or gs:// address that image paths are relative to; the folder of the data where empty."
    )
    fetch_images: bool = ours(False, "Whether images that rows name by http(s):// are fetched; else they are rejects.")
    allow_tokens: tuple[str, ...] = ours(
        (), "Tokens such as <|box_start|> that questions and answers may hold; others of that form are rejects."
    )


class Choices(Section):
    """Multiple choice: where the options stand, and what the answer column says."""

    options: str | tuple[str, ...] = Field(
        description="Field with the list of options, or several fields with one each."
    )
    answer: Literal["index", "index_from_1", "letter", "text"] = Field(
        description="How the answer names an option: by its place from 0 or from 1, its letter, or its text."
    )
    label: Literal["letter", "text"] = ours(
        "letter", "What is trained on: the option's letter, or its text; the other is accepted too."
    )
    instruction: str | None = ours(
        None, "Behind the listed options; may be empty. Where left out, it asks for what `label` says."
    )


class RecordSource(RowDefaults):
    """How the fields of a record are called. What is left out is found by the usual names; a.b is b inside the map a."""

    id: str | None = ours(
        "id", "Field with the row's id; null, or no such field: the id is a hash of the row's content and place."
    )
    question: str | None = ours(None, "Field with the question; where left out, the usual names (docs/data.md).")
    answer: str | None = ours(None, "Field with the answer: text, a number, or a list of accepted phrasings.")
    images: str | tuple[str, ...] | None = ours(
        None, "Field with an image or a list of them, or several such fields; where left out, the usual names."
    )
    system: str | None = ours(None, "Field with a system prompt; where left out, `system` if there is one.")
    conversation: str | None = ours(
        None, "Field with the turns, where a record is a conversation; where left out, the usual names."
    )
    split_field: str | None = ours("split", "Field with the row's split; null ignores it.")
    answer_type_field: str | None = ours("answer_type", "Field with the row's answer type; null ignores it.")
    question_type_field: str | None = ours(
        "question_type", "Field that groups the report by kinds of question; null ignores it."
    )
    splits: dict[str, Split | Literal["skip"]] = Field(
        default_factory=dict,
        description="Names of splits in the data, for example {testmini: test, train_small: skip}.",
    )
    choices: Choices | None = ours(None, "For multiple choice: options are refused without it.")
    repeated_ids: Literal["reject", "number"] = ours(
        "reject", "Rows with an id that was there before: rejects, or told apart by a number behind it."
    )

    @field_validator("images", mode="before")
    @classmethod
    def _several(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value


class FilesSource(RecordSource):
    """Files of any shape that people have: conversations or tables, recognised by their content."""

    type: Literal["files", "llava", "parquet", "datasets"] = Field(
        description="files; the other names are older spellings of it."
    )
    name: Name
    path: Folder = Field(description="A file, or a folder of files of one kind; also at s3:// or gs://.")
    format: FileKind | None = ours(
        None, "Of the files; where left out, told by their content. In a folder with several kinds, the one to read."
    )


class HubSource(RecordSource):
    """A data set on the Hugging Face hub, or a folder laid out like one."""

    type: Literal["hub"]
    name: Name
    path: str = Field(min_length=1, description="owner/name on the hub, or a folder.")
    config: str | None = ours(None, "Name of the configuration, where the data set has several.")
    revision: str | None = ours(None, "Commit, tag or branch; the commit that it names enters the digest.")


class CustomSource(RowDefaults):
    """A function of your own: `module:function`, called with `options`, yields masters.data.rows.RawRow or its fields."""

    type: Literal["custom"]
    name: Name
    reader: str = Field(pattern=r"^[\w.]+:\w+$", description="module:function")
    options: dict[str, Any] = Field(default_factory=dict, description="Passed to the function as keywords.")
    repeated_ids: Literal["reject", "number"] = ours(
        "reject", "Rows with an id that was there before: rejects, or told apart by a number behind it."
    )


Source = Annotated[ChartsSource | FilesSource | HubSource | CustomSource, Field(discriminator="type")]


class LeakageConfig(Section):
    """Images of train that are in what is evaluated, too: in a benchmark, or in the split of `evaluate.split`."""

    most: float = ours(0.001, "A larger share of the images of a benchmark or split stops the run.", ge=0, le=1)
    allow: tuple[str, ...] = ours(
        (), "Benchmarks, and the split, that stop nothing however many are found, as [AI2D_TEST, test]; they are told."
    )


class PrepareConfig(Section):
    """Reading, checking and ordering of samples."""

    sources: tuple[Source, ...] = Field(min_length=1, description="Where samples come from.")
    max_reject_ratio: float = ours(0.01, "More rejected rows than this share of all rows stop the run.", ge=0, le=1)
    max_image_pixels: int = ours(50_000_000, "Larger images are rejected.", ge=1)
    deduplicate: Literal["off", "exact", "perceptual"] = ours(
        "off",
        "Rows with the images and the question of an earlier row of their split are left out. exact: the same pixels; "
        "perceptual: also the same picture re-compressed, scaled or a little cut, with the same answer.",
    )
    leakage: LeakageConfig | None = ours(
        None, "Where it is given, if only as {}, images of train are looked for in what is evaluated."
    )

    @property
    def hashing(self) -> Literal["off", "exact", "perceptual"]:
        """Which hashes of images are needed."""
        return "perceptual" if self.leakage is not None else self.deduplicate
