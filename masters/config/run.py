"""The root of a recipe, and the rules that cross its sections."""

from collections.abc import Iterator

from pydantic import Field

from masters.algo.schedule import level_name, mask_ratios
from masters.config.base import EnvironmentVariable, Folder, Name, Section, ours
from masters.config.engine import EngineConfig
from masters.config.evaluate import EvaluateConfig
from masters.config.generate import GenerateConfig
from masters.config.images import ImagesConfig
from masters.config.kinship import family_problems
from masters.config.literals import field_problem, literal_secrets
from masters.config.mask import MaskConfig
from masters.config.models import ModelConfig, TeacherConfig
from masters.config.prepare import ChartsSource, CustomSource, PrepareConfig, RecordSource, Source
from masters.config.problems import Problem
from masters.config.resources import ResourcesConfig
from masters.config.score import EndpointJudge, PromptedJudge, ScoreConfig
from masters.config.secrets import secret_options
from masters.config.train import TrainConfig

STUDENT = "student"
LABEL = "label"
RESERVED = {STUDENT, LABEL, "baseline", "parts", "chosen.json", "benchmarks"}
"""Other authors, and what lies beside the teachers' folders in evaluation/."""


class RunConfig(Section):
    """A recipe: everything that a run needs to know."""

    name: Name = Field(description="Of the run; its directory is <storage>/<name>.")
    storage: Folder = Field("runs", description="Folder, s3:// or gs:// address that holds run directories.")
    seed: int = ours(0, "Of everything random; each item derives its own from it.", ge=0, lt=2**31)
    hub_token_env: EnvironmentVariable = Field(
        "HF_TOKEN", description="Environment variable with the Hugging Face token, where a model needs one."
    )
    hub_mirror: Folder | None = Field(
        None,
        description="Folder, s3:// or gs:// address for copies of the hub's models: one node fills it, others read it.",
    )
    from_run: Folder | None = Field(
        None,
        description="Another run whose finished stages are borrowed where they are the same: its name, path or address.",
    )
    student: ModelConfig = Field(description="The model that learns.")
    curriculum: tuple[TeacherConfig, ...] = Field(min_length=1, description="The teachers, in the order they teach.")
    images: ImagesConfig = Field(default_factory=ImagesConfig)
    prepare: PrepareConfig
    mask: MaskConfig = Field(default_factory=MaskConfig)
    generate: GenerateConfig = Field(default_factory=GenerateConfig)
    score: ScoreConfig = Field(default_factory=ScoreConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    engine: EngineConfig = Field(default_factory=EngineConfig)
    resources: ResourcesConfig = Field(default_factory=ResourcesConfig)

    def levels(self, teacher: int) -> tuple[str, ...]:
        """Names of the levels of one teacher of the curriculum, in order: `big@r0.20`, ..., `big@r0.00`."""
        config = self.curriculum[teacher]
        return tuple(level_name(config.alias, ratio) for ratio in mask_ratios(config.r_max, config.mask_step))


def cross_checks(config: RunConfig) -> Iterator[Problem]:
    """Rules between fields, each as a problem with the field's path, its value, the rule and the remedy."""
    yield from _curriculum_problems(config)
    yield from family_problems(config.student.path, [teacher.path for teacher in config.curriculum])
    yield from _source_problems(config)
    yield from _secret_problems(config)
    mix = config.generate.mix
    if mix.teacher + mix.student + mix.label == 0:
        yield Problem(
            "generate.mix",
            "0 + 0 + 0",
            "nobody answers",
            "Set generate.mix.teacher and generate.mix.student to 4.",
        )
    yield from _length_problems(config)
    yield from _image_problems(config)
    yield from _endpoint_problems(config)
    yield from _keep_problems(config)
    yield from _benchmark_problems(config)
    gang, train = config.resources.train, config.train
    share = gang.workers * train.groups_per_micro_batch
    if train.groups_per_step % share:
        yield Problem(
            "train.groups_per_step",
            train.groups_per_step,
            f"must be a multiple of resources.train.workers {gang.workers} x "
            f"groups_per_micro_batch {train.groups_per_micro_batch}",
            f"Use {share * max(1, round(train.groups_per_step / share))}.",
        )
    if train.precision == "bf16" and config.engine.dtype == "float32":
        yield Problem(
            "train.precision",
            "bf16",
            "is narrower than engine.dtype float32",
            "Use fp32, or engine.dtype auto.",
        )


def _secret_problems(config: RunConfig) -> Iterator[Problem]:
    """What is written out in any field; `_source_problems` has looked at options of readers, by their names too."""
    told = {
        where
        for index, source in enumerate(config.prepare.sources)
        if isinstance(source, CustomSource)
        for where in secret_options(source.options, f"prepare.sources[{index}].options")
    }
    for where, words in literal_secrets(config.model_dump(mode="json")):
        if where not in told:
            yield field_problem(where, words)


def _length_problems(config: RunConfig) -> Iterator[Problem]:
    longest = {
        "generate.max_tokens": config.generate.max_tokens,
        "evaluate.max_tokens": config.evaluate.max_tokens,
    }
    if isinstance(config.score.judge, PromptedJudge) and not isinstance(config.score.judge, EndpointJudge):
        longest["score.judge.max_tokens"] = config.score.judge.max_tokens
    for place, benchmark in enumerate(config.evaluate.benchmarks):
        if benchmark.max_tokens is not None:
            longest[f"evaluate.benchmarks[{place}].max_tokens"] = benchmark.max_tokens
    for path, tokens in longest.items():
        if tokens >= config.engine.max_model_len:
            rule = f"leaves no room for the prompt in engine.max_model_len {config.engine.max_model_len}"
            yield Problem(path, tokens, rule, "Raise engine.max_model_len.")


def _image_problems(config: RunConfig) -> Iterator[Problem]:
    """What no model takes; what one model takes, its folder tells: `masters.models.image_limits`."""
    images = config.images
    if images.max_tiles is not None and len(images.given) > 1:
        rule = "limits tiles of InternVL, and pixels of Qwen are limited beside it: no model takes both"
        yield Problem("images.max_tiles", images.max_tiles, rule, "Leave out what is not of the student's family.")
    if images.min_pixels is not None and images.max_pixels is not None and images.max_pixels < images.min_pixels:
        rule = f"is below images.min_pixels {images.min_pixels}"
        yield Problem("images.max_pixels", images.max_pixels, rule, "Raise it, or lower images.min_pixels.")


def _endpoint_problems(config: RunConfig) -> Iterator[Problem]:
    judge, actors = config.score.judge, config.resources.score.max_actors
    if isinstance(judge, EndpointJudge) and judge.max_concurrency < actors:
        rule = f"is less than one request for each of resources.score.max_actors {actors}"
        yield Problem(
            "score.judge.max_concurrency", judge.max_concurrency, rule, "Lower max_actors to 1: it waits, mostly."
        )


def _keep_problems(config: RunConfig) -> Iterator[Problem]:
    if config.train.keep == "last":
        return
    if not config.train.students_by_level:
        rule = "chooses among the students by level, and none is written"
        yield Problem("train.keep", "best", rule, "Set train.students_by_level: true.")
    if not any(map(_may_have_validation, config.prepare.sources)):
        rule = "chooses by the validation split, and no source has rows of it"
        remedy = "Give charts validation_images, add a source with split: validation, or use train.keep: last."
        yield Problem("train.keep", "best", rule, remedy)
    if config.evaluate.split == "validation":
        rule = "is what train.keep best chooses by, so it would flatter the student that was chosen"
        yield Problem("evaluate.split", "validation", rule, "Use test, or train.keep: last.")


def _benchmark_problems(config: RunConfig) -> Iterator[Problem]:
    seen: set[str] = set()
    for place, benchmark in enumerate(config.evaluate.benchmarks):
        if benchmark.name in seen:
            where = f"evaluate.benchmarks[{place}].name"
            yield Problem(where, benchmark.name, "is asked twice", "Name each benchmark once.")
        seen.add(benchmark.name)
    leakage = config.prepare.leakage
    for place, name in enumerate(leakage.allow if leakage else ()):
        if name not in {*seen, config.evaluate.split}:
            where = f"prepare.leakage.allow[{place}]"
            listed = ", ".join([*sorted(seen), config.evaluate.split])
            yield Problem(where, name, "is nothing that is evaluated", f"Name one of {listed}, or leave it out.")


def _may_have_validation(source: Source) -> bool:
    """Whether rows of the validation split can be in a source; only its rows tell where they say their split themselves."""
    if isinstance(source, ChartsSource):
        return source.validation_images > 0
    own_word = isinstance(source, RecordSource) and source.split_field is None and "split" in source.model_fields_set
    return not own_word or source.split == "validation"


def _curriculum_problems(config: RunConfig) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, teacher in enumerate(config.curriculum):
        where = f"curriculum[{index}]"
        try:
            mask_ratios(teacher.r_max, teacher.mask_step)
        except ValueError as error:
            rule, _, remedy = str(error).partition(". ")
            yield Problem(f"{where}.mask_step", teacher.mask_step, rule, remedy)
        if teacher.alias in RESERVED:
            yield Problem(
                f"{where}.alias",
                teacher.alias,
                "names another author or folder",
                "Use another alias, for example `big`.",
            )
        if teacher.alias in seen:
            yield Problem(f"{where}.alias", teacher.alias, "is used twice", "Give every teacher an alias of its own.")
        seen.add(teacher.alias)


def _source_problems(config: RunConfig) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, source in enumerate(config.prepare.sources):
        if source.name in seen:
            where = f"prepare.sources[{index}].name"
            yield Problem(
                where,
                source.name,
                "is used twice, so sample ids would collide",
                "Give every source its own name.",
            )
        seen.add(source.name)
        if isinstance(source, CustomSource):
            for where in secret_options(source.options, f"prepare.sources[{index}].options"):
                rule = "looks like a secret, and the run's record would hold it; the value is not shown"
                remedy = (
                    "Give the NAME of an environment variable, as token_env: MY_TOKEN, and read it in the function."
                )
                yield Problem(where, None, rule, remedy)
