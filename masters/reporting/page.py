"""The report: one self-contained HTML page, from the artifacts of a run."""

import base64
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.compute as pc

from masters.config.run import RunConfig
from masters.data.image_shards import read_image
from masters.data.manifests import read_manifest
from masters.data.metrics import read_metrics
from masters.data.samples import find_sample, read_samples
from masters.data.storage import Storage
from masters.data.students import all_levels, is_level_student, read_chosen
from masters.reporting import plots
from masters.reporting.benchmark_section import section
from masters.reporting.cleanliness import duplicates_of, leaks_of
from masters.reporting.departures import departures, silent
from masters.reporting.drawing import draw_rewards
from masters.reporting.ladder import Rung, millions, read_ladder
from masters.reporting.levels import LevelStudent, read_levels, tell_choice
from masters.reporting.mix import rows_of as mix_rows
from masters.reporting.progress import clock
from masters.reporting.story import Story, read_stories, verdict_word

_GALLERY, _CHANGED, _REWARDS = 24, 12, 400_000
_STAGES = ("prepare", "mask", "generate", "score", "train", "evaluate")


def build_page(config: RunConfig, run: Storage) -> str:
    """The HTML text."""
    manifests = {name: read_manifest(run, name) for name in _STAGES}
    counts = {name: manifest.counts if manifest else {} for name, manifest in manifests.items()}
    rungs, students, metrics = read_ladder(run), read_levels(run, list(all_levels(config))), read_metrics(run)
    rewards, earned = draw_rewards(run, metrics, _REWARDS, config.seed)
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
        plots=_plots(config, run, rungs, metrics, rewards, counts, seconds, students),
        drawn=(rewards.num_rows, earned),
        benchmarks=section(run),
        choice=tell_choice(students, read_chosen(run) or {}, config.evaluate.split) if students else [],
        departures=departures(config),
        silent=silent(config),
        gallery=[_card(run, story) for story in _gallery(run, counts["prepare"]["train"])],
        changed=[_card(run, story) for story in _changed(config, run)],
        mix=list(mix_rows(counts["prepare"])),
        duplicates=duplicates_of(counts["prepare"]),
        leaks=list(leaks_of(run)),
        rejects=_rejects(run, counts["prepare"]["rejects"]),
        engines=[
            (name, pool, use, [clock(use[f"{part}_seconds"]) for part in ("busy", "waiting", "switching")])
            for name in seconds
            for pool, use in counts[name].get("engines", {}).items()
            if use["tokens"]
        ],
        stages=[(name, clock(seconds[name]), _rows(name, counts[name])) for name in seconds],
        total=clock(sum(seconds.values())),
        millions=millions,
    )


def _plots(
    config: RunConfig,
    run: Storage,
    rungs: Sequence[Rung],
    metrics: Sequence[dict[str, Any]],
    rewards: pa.Table,
    counts: dict[str, Any],
    seconds: dict[str, float],
    students: Sequence[LevelStudent],
) -> dict[str, str]:
    ratios = [float(row["level"].rpartition("@r")[2]) for row in metrics]
    drawn = {
        "ladder": plots.ladder(rungs),
        "by_type": plots.by_type(rungs),
        "training": plots.training(metrics, ratios),
        "sparsity": plots.sparsity(_sparsity(config, run)),
        "verdicts": plots.verdicts(_right_shares(counts["score"])),
        "seconds": plots.seconds(seconds),
    }
    if counts["prepare"].get("mix"):
        drawn["mix"] = plots.mix(counts["prepare"]["mix"])
    if students:
        baseline = next(rung for rung in rungs if rung.name == "baseline").scores["accuracy"]
        drawn["by_level"] = plots.by_level(students, baseline, ratios, config.evaluate.split)
    if rewards.num_rows:
        authors = set(rewards["author"].unique().to_pylist())
        drawn["divergences"] = plots.divergences(
            {
                name: rewards.filter(pc.equal(rewards["author"], name))["divergence"].cast("float64").to_numpy()
                for name in (*all_levels(config), "student", "label")
                if name in authors
            }
        )
        drawn["rewards"] = plots.rewards(
            *(rewards[name].cast("float64").to_numpy() for name in ("distill_reward", "advantage"))
        )
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


def _gallery(run: Storage, total: int) -> list[Story]:
    """Some of the train samples, from all over the curriculum."""
    positions = [total * i // _GALLERY for i in range(min(_GALLERY, total))]
    return read_stories(run, [row for at in positions for row in read_samples(run, "train", at, at + 1)])


def _changed(config: RunConfig, run: Storage) -> list[Story]:
    """Held-out questions on which baseline and student differ in being right, drawn at random."""
    tables = [
        run.read_table(f"evaluation/{name}/predictions.parquet", ["sample_id", "correct"]).to_pylist()
        for name in ("baseline", "student")
    ]
    before = {row["sample_id"]: row["correct"] for row in tables[0]}
    ids = sorted(row["sample_id"] for row in tables[1] if before.get(row["sample_id"]) not in (None, row["correct"]))
    picked = random.Random(config.seed).sample(ids, min(_CHANGED, len(ids)))
    found = [find_sample(run, sample_id, [config.evaluate.split]) for sample_id in picked]
    return read_stories(run, [sample for sample in found if sample is not None])


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


def _rejects(run: Storage, prepared: dict[str, int]) -> list[tuple[str, str, int]]:
    """(stage, reason, rows); `prepared` are those that prepare counted, which may be many."""
    found = Counter({("prepare", reason): rows for reason, rows in prepared.items()})
    names = [name for name in run.names("rejects", ".parquet") if not name.startswith("rejects/prepare/")]
    for name, table in zip(names, run.each(lambda name: run.read_table(name, ["reason"]), names), strict=True):
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
        spared = {how: n for how, n in counts.get("by", {}).items() if n and how != "judged"}  # no judge was asked
        told = f" ({', '.join(f'{n:,} {how}' for how, n in spared.items())})" if spared else ""
        return f"{sum(sum(counts[part].values()) for part in ('right', 'wrong', 'null')):,} verdicts{told}"
    if stage == "train":
        return f"{counts['steps']:,} steps"
    return f"{counts['questions']:,} questions, {len(counts['models'])} models"
