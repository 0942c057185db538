"""A study: rows of recipes over a base, seeds, and what each row is compared with. From one YAML 1.2 file."""

import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from masters.config.base import Folder, Name, Section
from masters.config.explain import problem_of, root_causes
from masters.config.extending import EXTENDS, read_extended
from masters.config.load import overridden, validate
from masters.config.problems import Problem, RecipeError
from masters.config.run import RunConfig
from masters.config.yaml_files import laid_over, read_yaml

BASELINE = "baseline"
"""What a row may be compared with beside another row: the student that it started from."""

_REMEDY = "docs/study.md has one that can be copied."
_OURS = ("name", "storage", "seed", "from_run")


class InPaper(Section):
    """What the paper says of a row; in percent and points."""

    where: str = Field(min_length=1, description="Table or figure, and of which model.")
    value: float | None = Field(None, description="The row's value, where one is printed.")
    change: float | str | None = Field(
        None, description="Its difference to the row that it is compared with; + or - where no number is printed."
    )

    @field_validator("change")
    @classmethod
    def _number_or_sign(cls, change: float | str | None) -> float | str | None:
        if isinstance(change, str) and change not in ("+", "-"):
            raise ValueError("is neither a number nor a sign. Write 0.4 for points, or + or - in quotes.")
        return change

    @property
    def sign(self) -> str | None:
        """Which way the paper's difference goes, + or -; None where it says nothing, or that there is none."""
        if isinstance(self.change, float | int):
            return None if self.change == 0 else "+" if self.change > 0 else "-"
        return self.change


class StudyRow(Section):
    """One line of the study's table: a recipe that is run once for each seed."""

    name: Name = Field(description="Short; its runs are named <name>-<seed>.")
    title: str = Field("", description="As the table shows it; the name if left out.")
    recipe: str | None = Field(None, description="A recipe by its path from the study's folder; the base if left out.")
    set: tuple[str, ...] = Field((), description="Overrides, as of --set.")
    against: Name | None = Field(None, description="The row that it is compared with, or baseline.")
    paper: InPaper | None = Field(None, description="What the paper prints; left out for what it has not.")


class StudySeed(Section):
    """A seed, and what goes with it: a student of its own, other data."""

    seed: int = Field(ge=0, lt=2**31)
    set: tuple[str, ...] = Field((), description="Overrides, as of --set.")


class StudyConfig(Section):
    """The file, as it is written."""

    name: Name = Field(description="Of the folder of its runs: <storage>/<name>. The file's, if left out.")
    storage: Folder = Field("runs", description="Folder, s3:// or gs:// address that holds studies.")
    base: str | None = Field(
        None, description="A recipe by its path from here, in place of what the rows' recipes extend."
    )
    set: tuple[str, ...] = Field((), description="Overrides of all rows, before those of seeds and rows.")
    seeds: tuple[StudySeed, ...] = Field(min_length=1, description="Each row is run with each; a number, or a mapping.")
    rows: tuple[StudyRow, ...] = Field(min_length=1, description="In the order of the table.")


@dataclass(frozen=True)
class StudyRun:
    """A row with a seed: `recipe` is its whole recipe, as a file of its own would have it."""

    row: StudyRow
    seed: int
    recipe: dict[str, Any]
    config: RunConfig

    @property
    def name(self) -> str:
        """Of the run, and of its directory in the study's."""
        return self.config.name


@dataclass(frozen=True)
class Study:
    """A study that can be run: all rows of the first seed, then all of the next."""

    config: StudyConfig
    runs: tuple[StudyRun, ...]

    @property
    def folder(self) -> str:
        """Path or address of the study's own folder, which holds its runs."""
        return folder_of(self.config)


def folder_of(config: StudyConfig) -> str:
    """Path or address of the folder that holds the study's runs."""
    return f"{config.storage.rstrip('/')}/{config.name}"


def load_study(path: Path) -> Study:
    """Read and check a study and the recipe of each of its runs.

    Raises:
        RecipeError: with every problem found, in the study or in a recipe of it; nothing has been started.
    """
    config = _read(path)
    problems = list(_problems(config))
    if problems:
        raise RecipeError(str(path), problems)
    runs: list[StudyRun] = []
    found: dict[str, tuple[Problem, list[str]]] = {}  # what is wrong with the base is wrong with every row
    for seed in config.seeds:
        for place, row in enumerate(config.rows):
            try:
                runs.append(_run(config, row, seed, path))
            except RecipeError as error:
                for one in error.problems:
                    found.setdefault(str(one), (one, []))[1].append(f"rows[{place}] {row.name}, seed {seed.seed}")
    problems = [
        Problem(
            f"{where[0]}{f' and {len(where) - 1} other runs' if where[1:] else ''}: {one.path}",
            one.value,
            one.rule,
            one.remedy,
        )
        for one, where in found.values()
    ]
    if problems:
        raise RecipeError(str(path), problems)
    return Study(config, tuple(runs))


def _read(path: Path) -> StudyConfig:
    data = read_yaml(path, _REMEDY)
    if not isinstance(data, dict):
        raise RecipeError(str(path), [Problem("file", None, "is not a mapping of fields", _REMEDY)])
    data.setdefault("name", path.stem)
    if isinstance(data.get("seeds"), list):
        data["seeds"] = [one if isinstance(one, dict) else {"seed": one} for one in data["seeds"]]
    try:
        return StudyConfig.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        raise RecipeError(str(path), [_problem(item, data) for item in root_causes(error.errors())]) from None


def _problem(error: Any, data: dict[str, Any]) -> Problem:
    """A pydantic error in our own words: what `problem_of` says of recipes' fields does not hold for those of a study."""
    if error["type"] not in ("extra_forbidden", "missing"):
        return problem_of(error, data)
    found = problem_of({**error, "type": "literal_error"}, data)
    if error["type"] == "missing":
        return Problem(found.path, None, "is required", _REMEDY)
    sections: dict[str, type[Section]] = {"rows": StudyRow, "seeds": StudySeed, "paper": InPaper}
    inside = [key for key in error["loc"][:-1] if key in sections]
    known = list((sections[inside[-1]] if inside else StudyConfig).model_fields)
    close = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
    remedy = f"Did you mean {close[0]}?" if close else f"Known here: {', '.join(known)}."
    return Problem(found.path, found.value, "is not a field of a study", remedy)


def _problems(config: StudyConfig) -> Iterator[Problem]:
    names = [row.name for row in config.rows]
    for place, row in enumerate(config.rows):
        where = f"rows[{place}]"
        if row.name == BASELINE or names.index(row.name) < place:
            rule = "is the student that every row starts from" if row.name == BASELINE else "is used twice"
            yield Problem(f"{where}.name", row.name, rule, "Give every row a name of its own.")
        if row.against is not None and row.against not in {BASELINE, *names} - {row.name}:
            others = ", ".join([BASELINE, *(name for name in names if name != row.name)])
            yield Problem(f"{where}.against", row.against, "is no other row", f"Name one of {others}.")
        if row.recipe is None and config.base is None:
            yield Problem(f"{where}.recipe", None, "is required where the study has no base", "Name a recipe.")
        if row.paper and row.paper.change is not None and row.against is None:
            rule = "is a difference to nothing: the row is not compared"
            yield Problem(f"{where}.paper.change", row.paper.change, rule, "Say against which row.")
        yield from _taken(f"{where}.set", row.set)
    seeds = [one.seed for one in config.seeds]
    for place, seed in enumerate(config.seeds):
        if seeds.index(seed.seed) < place:
            yield Problem(f"seeds[{place}]", seed.seed, "is used twice", "Name each seed once.")
        yield from _taken(f"seeds[{place}].set", seed.set)
    yield from _taken("set", config.set)


def _taken(where: str, overrides: Sequence[str]) -> Iterator[Problem]:
    """Overrides of what the study says of each run itself."""
    for place, override in enumerate(overrides):
        field = override.partition("=")[0].strip()
        if field in _OURS:
            rule = f"sets {field}, which the study gives each run"
            yield Problem(f"{where}[{place}]", override, rule, "Leave it out; seeds stand under `seeds`.")


def _run(config: StudyConfig, row: StudyRow, seed: StudySeed, path: Path) -> StudyRun:
    data = _laid_out(config, row, path.parent)
    data = overridden(data, [*config.set, *seed.set, *row.set], str(path))
    data |= {"name": f"{row.name}-{seed.seed}", "storage": folder_of(config), "seed": seed.seed}
    data.pop("from_run", None)
    return StudyRun(row, seed.seed, data, validate(data, str(path)))


def _laid_out(config: StudyConfig, row: StudyRow, folder: Path) -> dict[str, Any]:
    """A row's recipe with what it extends, or over the study's base in place of that."""
    if config.base is None:
        assert row.recipe is not None
        return read_extended(folder / row.recipe)
    base = read_extended(folder / config.base)
    if row.recipe is None:
        return base
    own = read_yaml(folder / row.recipe, _REMEDY)
    if not isinstance(own, dict):
        return read_extended(folder / row.recipe)  # which says what is wrong with it
    extended = own.pop(EXTENDS, None)
    below = read_yaml(folder / Path(row.recipe).parent / extended, _REMEDY) if isinstance(extended, str) else None
    if isinstance(below, dict) and EXTENDS in below:
        rule = f"extends {extended}, which extends another: which of them the study's base replaces is not clear"
        raise RecipeError(row.recipe, [Problem("recipe", row.recipe, rule, "Write it as one file over a base.")])
    merged: dict[str, Any] = laid_over(base, own)
    return merged
