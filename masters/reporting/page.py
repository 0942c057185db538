"""The report: one self-contained HTML page, from the artifacts of a run."""

import base64
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import jinja2

from masters.config.run import RunConfig
from masters.data.image_shards import read_image
from masters.data.manifests import read_manifest
from masters.data.metrics import REWARDS_FOLDER, read_metrics
from masters.data.samples import read_split
from masters.data.storage import Storage
from masters.data.students import all_levels, is_level_student, read_chosen
from masters.data.tables import REJECTS, REWARDS
from masters.reporting import plots
from masters.reporting.departures import departures, silent
from masters.reporting.ladder import millions, read_ladder
from masters.reporting.levels import LevelStudent, read_levels, tell_choice
from masters.reporting.progress import clock
from masters.reporting.story import Story, read_stories, verdict_word

_GALLERY, _CHANGED, _PLOTTED = 24, 12, 20_000
_STAGES = ("prepare", "mask", "generate", "score", "train", "evaluate")


def build_page(config: RunConfig, run: Storage) -> str:
    """The HTML text."""
    manifests = {name: read_manifest(run, name) for name in _STAGES}
    counts = {name: manifest.counts if manifest else {} for name, manifest in manifests.items()}
    rungs, students = read_ladder(run), read_levels(run, list(all_levels(config)))
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string((files("masters.reporting") / "templates" / "report.html.j2").read_text())
    seconds = {name: manifest.seconds for name, manifest in manifests.items() if manifest}
    return template.render(
        config=config,
        facts=run.read_json("run.json"),
        rungs=rungs,
        student=next(r for r in rungs if r.name == "student").scores,
        counts=counts,
        plots=_plots(config, run, counts, seconds, students),
        choice=tell_choice(students, read_chosen(run) or {}, config.evaluate.split) if students else [],
        departures=departures(config),
        silent=silent(config),
        gallery=[_card(run, story) for story in _gallery(config, run)],
        changed=[_card(run, story) for story in _changed(config, run)],
        rejects=_rejects(run),
        stages=[(name, clock(seconds[name]), _rows(name, counts[name])) for name in seconds],
        total=clock(sum(seconds.values())),
        millions=millions,
    )


def _plots(
    config: RunConfig,
    run: Storage,
    counts: dict[str, Any],
    seconds: dict[str, float],
    students: Sequence[LevelStudent],
) -> dict[str, str]:
    rungs, metrics = read_ladder(run), read_metrics(run)
    ratios = [float(row["level"].rpartition("@r")[2]) for row in metrics]
    drawn = {
        "ladder": plots.ladder(rungs),
        "by_type": plots.by_type(rungs),
        "training": plots.training(metrics, ratios),
        "sparsity": plots.sparsity(_sparsity(config, run)),
        "verdicts": plots.verdicts(_right_shares(counts["score"])),
        "seconds": plots.seconds(seconds),
    }
    if students:
        baseline = next(rung for rung in rungs if rung.name == "baseline").scores["accuracy"]
        drawn["by_level"] = plots.by_level(students, baseline, ratios, config.evaluate.split)
    rewards = run.read_tables(run.names(REWARDS_FOLDER, ".parquet"), REWARDS)
    if rewards.num_rows:
        by_author: dict[str, list[float]] = defaultdict(list)
        for author, divergence in zip(rewards["author"].to_pylist(), rewards["divergence"].to_pylist(), strict=True):
            by_author[author].append(divergence)
        order = [*all_levels(config), "student", "label"]
        drawn["divergences"] = plots.divergences({name: by_author[name] for name in order if name in by_author})
        drawn["rewards"] = plots.rewards(rewards["distill_reward"].to_pylist(), rewards["advantage"].to_pylist())
    return drawn


def _sparsity(config: RunConfig, run: Storage) -> dict[str, list[float]]:
    """Zeroed share of each matrix by ratio, of all teachers one after the other."""
    shares: dict[str, list[float]] = defaultdict(list)
    for teacher in config.curriculum:
        for entry in run.read_json(f"thresholds/{teacher.alias}.json")["tensors"].values():
            for ratio, masked in entry["masked"].items():
                shares[ratio].append(masked / entry["numel"])
    return dict(shares)


def _right_shares(counts: dict[str, dict[str, int]]) -> dict[str, float]:
    authors = list({**counts["right"], **counts["wrong"]})
    totals = {name: counts["right"].get(name, 0) + counts["wrong"].get(name, 0) for name in authors}
    return {name: counts["right"].get(name, 0) / totals[name] for name in authors}


def _gallery(config: RunConfig, run: Storage) -> list[Story]:
    """Train samples from all over the curriculum."""
    ids = read_split(run, "train", ["sample_id"])["sample_id"].to_pylist()
    picked = [ids[len(ids) * i // _GALLERY] for i in range(min(_GALLERY, len(ids)))]
    return read_stories(run, picked)


def _changed(config: RunConfig, run: Storage) -> list[Story]:
    """Held-out questions on which baseline and student differ in being right, drawn at random."""
    tables = [
        run.read_table(f"evaluation/{name}/predictions.parquet", ["sample_id", "correct"]).to_pylist()
        for name in ("baseline", "student")
    ]
    before = {row["sample_id"]: row["correct"] for row in tables[0]}
    ids = sorted(row["sample_id"] for row in tables[1] if before.get(row["sample_id"]) not in (None, row["correct"]))
    return read_stories(run, random.Random(config.seed).sample(ids, min(_CHANGED, len(ids))))


def _card(run: Storage, story: Story) -> dict[str, Any]:
    """What the template shows of a story."""
    words = Counter(verdict_word(response) for response in story.responses)
    kind = "mixed" if len(words) > 1 else next(iter(words), "")
    return {
        "story": story,
        "kind": {"right": "all right", "wrong": "all wrong"}.get(kind, kind),
        "images": [_data_uri(read_image(run, name), name) for name in story.sample["image_ids"]],
        "verdicts": [verdict_word(response) for response in story.responses],
        "predictions": {name: p for name, p in story.predictions.items() if not is_level_student(name)},
    }


def _data_uri(content: bytes, name: str) -> str:
    suffix = name.rpartition(".")[2]
    return f"data:image/{'jpeg' if suffix == 'jpg' else suffix};base64,{base64.b64encode(content).decode()}"


def _rejects(run: Storage) -> list[tuple[str, str, int]]:
    """(stage, reason, rows)."""
    found: Counter[tuple[str, str]] = Counter()
    for name in run.names("rejects", ".parquet"):
        table = run.read_tables([name], REJECTS)
        found.update((name.split("/")[1], reason) for reason in table["reason"].to_pylist())
    return [(stage, reason, count) for (stage, reason), count in found.most_common()]


def _rows(stage: str, counts: dict[str, Any]) -> str:
    """What a stage produced, in words."""
    if stage == "prepare":
        return f"{counts['rows']:,} rows, {counts['images']:,} images"
    if stage == "mask":
        return ", ".join(f"{c['matrices']} matrices, {millions(c['weights'])} weights" for c in counts.values())
    if stage == "generate":
        return f"{sum(counts['responses'].values()):,} responses, {sum(counts['tokens'].values()):,} tokens"
    if stage == "score":
        return f"{sum(sum(part.values()) for part in counts.values()):,} verdicts"
    if stage == "train":
        return f"{counts['steps']:,} steps"
    return f"{counts['questions']:,} questions, {len(counts['models'])} models"
