"""score: a verdict for each response. Empty and long repetitive ones are wrong by rule, labels right; a judge gets the rest.

A judge that is a model gets the responses of all authors to some questions together, so that equal ones are judged once; its
tables lie in judged/ until all are there, and are then taken apart into those of the authors.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any

from masters.config.models import ModelConfig
from masters.config.run import LABEL, STUDENT, RunConfig
from masters.config.score import HOW_FAST, EndpointJudge, ModelJudge, RuleJudge, TeacherJudge
from masters.data.manifests import read_manifest
from masters.data.shards import Shard, count, cut
from masters.data.storage import Storage
from masters.models.folder import fingerprint
from masters.reporting.progress import Screen
from masters.stages.base import Stage
from masters.stages.fetch import Need
from masters.stages.generate import UNMASKED, author_shards, teacher_shards
from masters.stages.score_task import Known, ScoreTask
from masters.stages.shard_pool import Job, run_stage_shards
from masters.stages.shard_worker import EngineSpec
from masters.stages.verdict_tables import finish

_JUDGED, _KNOWN = "judged", "judged/known.json"
_WHERE = {"path", "gpus_per_engine"}


def parts(config: RunConfig) -> dict[str, Any]:
    """What the verdicts depend on."""
    judge = config.score.judge
    if isinstance(judge, RuleJudge):
        return {"score": config.score.model_dump(mode="json", exclude={"cache", "match_first"}), "engine": {}}
    left_out: Any = {"cache": True, "numeric_tolerance": True, "judge": HOW_FAST | _WHERE}
    found: dict[str, Any] = {
        "score": config.score.model_dump(mode="json", exclude=left_out),
        "engine": {} if isinstance(judge, EndpointJudge) else config.engine.model_dump(mode="json"),
    }
    if isinstance(judge, ModelJudge):
        found["judge"] = fingerprint(judge.path, config.hub_token_env, any_family=True)
    return found


def execute(config: RunConfig, run: Storage, screen: Screen) -> tuple[dict[str, Any], str]:
    """The teachers judge their own levels' responses, unmasked, and the last one the student's; another judge judges all."""
    prepared = read_manifest(run, "prepare")
    assert prepared is not None
    by_judge = _by_judge(config, prepared.counts["train"])
    shards = [shard for group in by_judge.values() for shard in group]
    judge, pools = config.score.judge, dict[str, Any]()
    if isinstance(judge, RuleJudge):
        task = ScoreTask(config.score, config.engine.max_model_len, config.seed)
        pools = run_stage_shards("questions", [Job(task, shards, "judge", config.resources.score)], run, screen)
    else:
        written = set(run.names("verdicts", ".parquet"))
        if any(shard.file("verdicts") not in written for shard in shards):
            pools = _judge(config, by_judge, prepared.counts["train"], written, run, screen)
    counts, words = _summary(run, shards, judge.type)
    run.delete(_JUDGED)
    return counts | {"engines": pools}, words


def _models(config: RunConfig) -> list[Need]:
    judge = config.score.judge
    models: Sequence[ModelConfig] = ()
    if isinstance(judge, TeacherJudge):
        models = config.curriculum
    elif isinstance(judge, ModelJudge):
        models = (judge,)
    return [Need(model.path, config.resources.score) for model in models]


_OUTPUTS = ("verdicts", _JUDGED, "rejects/score", "failures/score")
STAGE = Stage(
    "score", ("prepare", "generate"), _OUTPUTS, parts, execute, _models, continuing=(_JUDGED, "failures/score")
)


def judge_identity(config: RunConfig, teacher: int) -> str:
    """Who judges, for verdicts that runs share: the model, its settings, our prompts. Not the run's seed.

    Args:
        config: the recipe.
        teacher: place in the curriculum of the teacher whose level's responses are judged.
    """
    judge = config.score.judge
    prompts = sorted((files("masters.judging") / "prompts").iterdir(), key=lambda file: file.name)
    texts = [file.read_text(encoding="utf-8") for file in prompts]
    model: Any = None
    if isinstance(judge, TeacherJudge | ModelJudge):
        path = judge.path if isinstance(judge, ModelJudge) else config.curriculum[teacher].path
        model = [fingerprint(path, config.hub_token_env, any_family=True), config.engine.model_dump(mode="json")]
    said = [judge.model_dump(mode="json", exclude=HOW_FAST | _WHERE), model, texts]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def judging_model(config: RunConfig, teacher: int) -> ModelConfig | None:
    """The model whose engine judges, if one does."""
    judge = config.score.judge
    if isinstance(judge, TeacherJudge):
        return config.curriculum[teacher]
    return judge if isinstance(judge, ModelJudge) else None


def _by_judge(config: RunConfig, total: int) -> dict[int, list[Shard]]:
    """Shards of responses by the teacher who judges them; all under the last one where all have one judge."""
    last = len(config.curriculum) - 1
    own = isinstance(config.score.judge, TeacherJudge)
    groups: dict[int, list[Shard]] = {}
    for index in range(last + 1):
        groups.setdefault(index if own else last, []).extend(teacher_shards(config, index, total))
    groups[last] += [*author_shards(config, STUDENT, total), *author_shards(config, LABEL, total)]
    return groups


def _judge(
    config: RunConfig, by_judge: dict[int, list[Shard]], total: int, written: set[str], run: Storage, screen: Screen
) -> dict[str, Any]:
    """Judge all authors' responses together, then write their tables."""
    resources, folder = config.resources.score, config.score.cache and Storage(config.score.cache).uri
    identities = {teacher: judge_identity(config, teacher) for teacher in by_judge}
    known = _known(run, folder, identities.values())
    jobs, apart, judges = [], list[tuple[Shard, list[str]]](), dict[str, str]()
    for teacher, sources in by_judge.items():
        identity, model = identities[teacher], judging_model(config, teacher)
        name = (
            config.curriculum[teacher].alias
            if isinstance(config.score.judge, TeacherJudge)
            else config.score.judge.type
        )
        units = list(cut(name, UNMASKED, "train", 0, total, config.generate.shard_size)) if sources else []
        task = ScoreTask(
            config.score,
            config.engine.max_model_len,
            config.seed,
            tuple(sources),
            resources.max_actors,
            known.get(identity),
        )
        jobs.append(Job(task, units, "judge", resources, EngineSpec.of(model, config, 1) if model else None))
        judges |= {unit.file(_JUDGED): identity for unit in units}
        for shard in sources:
            if shard.file("verdicts") not in written:
                held = [u.file(_JUDGED) for u in units if u.start < shard.stop and shard.start < u.stop]
                apart.append((shard, held))
    pools = run_stage_shards("questions", jobs, run, screen)
    finish(run, apart, judges, folder, resources)
    return pools


def _known(run: Storage, folder: str | None, identities: Iterable[str]) -> dict[str, Known]:
    """What runs share, as it was when the stage began: for every worker, and after every interruption, the same."""
    if not run.exists(_KNOWN):
        names = {identity: Storage(folder).names(identity, ".parquet") if folder else [] for identity in identities}
        run.write_json(_KNOWN, {"folder": folder, "names": names})
    found = run.read_json(_KNOWN)
    return {judge: Known(found["folder"], tuple(names)) for judge, names in found["names"].items() if names}


def _summary(run: Storage, shards: Sequence[Shard], judge: str) -> tuple[dict[str, Any], str]:
    found = count(run, "verdicts", shards)
    counts = {
        name: {author: held[name] for author, held in found.items() if held[name]}
        for name in ("right", "wrong", "null")
    }
    right, wrong, null = (sum(by_author.values()) for by_author in counts.values())
    total = right + wrong + null
    words = f"{judge} judge: {total:,} verdicts, {100 * right / max(1, total):.1f} % right, {null:,} null"
    if judge == "rule":
        return counts, words
    by = sum(found.values(), Counter[str]())
    told = {"judged": by[f"by {judge}"], "matched": by["by match"]}
    told |= {"equal": by[f"by {judge} (equal)"], "cached": by[f"by {judge} (cache)"]}
    spared = ", ".join(f"{number:,} {how}" for how, number in told.items())
    return counts | {"by": told}, f"{words} ({spared})"
