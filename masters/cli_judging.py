"""The command `masters judge-agreement`."""

import json
import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from masters.config.score import Judge
    from masters.stages.agreement import Judged

_SHOWN, _WIDTH = 3, 160
_WORDS = {1: "right", 0: "wrong", None: "null"}


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("judge-agreement")(judge_agreement)


def judge_agreement(
    run_directory: Annotated[str, typer.Argument(metavar="RUN", help="A run directory with verdicts.")],
    judge: Annotated[
        list[str],
        typer.Option(help="Another judge, as score.judge in a recipe: '{type: rule}' or a YAML file. Repeatable."),
    ],
    sample: Annotated[int, typer.Option(min=2, help="Responses that are judged again.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the choice of responses.")] = 0,
) -> None:
    """Let other judges judge some responses of a run: Cohen's kappa, a table, examples. The run stays as it is."""
    judges = [read_judge(text) for text in judge]
    from masters.config.run import RunConfig
    from masters.data.storage import Storage
    from masters.reporting.terminal import quiet
    from masters.stages.agreement import ask, draw

    run = Storage(run_directory)
    if not run.exists("run.json"):
        raise ValueError(f"{run_directory}: is no run directory: it has no run.json")
    config = RunConfig.model_validate_json(json.dumps(run.read_json("run.json")["recipe"]), strict=False)
    drawn = draw(run, sample, seed)
    for other in judges:
        with tempfile.TemporaryDirectory() as folder, quiet(Path(folder) / "log") as screen:
            judged = ask(run, config, other, drawn)
            for line in told(config.score.judge.type, other.type, judged):
                screen.text(line)


def read_judge(text: str) -> "Judge":
    """A judge as it stands in a recipe, or in a file. Raises ValueError where it is none."""
    from pydantic import TypeAdapter, ValidationError
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    from masters.config.score import Judge
    from masters.config.secrets import shown

    try:
        data: Any = YAML(typ="safe").load(Path(text).read_text() if text.endswith((".yaml", ".yml")) else text)
    except (OSError, YAMLError) as error:
        raise ValueError(f"--judge: cannot be read ({str(error).splitlines()[0]}). Write '{{type: rule}}'.") from error
    try:
        return TypeAdapter(Judge).validate_python(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "judge"
        raise ValueError(
            f"--judge {shown(data)}: {where}: {first['msg']}. Write it as score.judge in a recipe."
        ) from None


def told(ours: str, theirs: str, judged: Sequence["Judged"]) -> Iterator[str]:
    """Kappa, the table and some disagreements, in lines."""
    from masters.reporting.statistics import kappa_interval

    both = [pair for pair in judged if None not in (pair.ours.value, pair.theirs.value)]
    yield f"{theirs} beside the run's {ours}: {len(judged)} responses, {len(both)} with both verdicts"
    if both:
        first, second = [bool(pair.ours.value) for pair in both], [bool(pair.theirs.value) for pair in both]
        kappa = kappa_interval(first, second, [pair.item.key for pair in both])
        agreed = sum(a == b for a, b in zip(first, second, strict=True)) / len(both)
        found = "not defined, both say the same of all" if math.isnan(kappa.value) else f"{kappa.value:.2f}"
        yield f"  kappa {found} [{kappa.low:.2f}, {kappa.high:.2f}], agreement {100 * agreed:.1f} %"
    cells = Counter((pair.ours.value, pair.theirs.value) for pair in judged)
    yield "  " + f"{'run / other':>12}" + "".join(f"{word:>8}" for word in _WORDS.values())
    for value, word in _WORDS.items():
        yield "  " + f"{word:>12}" + "".join(f"{cells[value, other]:>8}" for other in _WORDS)
    differing = [pair for pair in judged if pair.ours.value != pair.theirs.value]
    for pair in differing[:_SHOWN]:
        yield f"  {pair.item.key} by {pair.author}: {_short(pair.item.question)}"
        yield f"    answer {_short(pair.item.ground_truth)} · response {_short(pair.item.response)}"
        for name, said in ((pair.by, pair.ours), (theirs, pair.theirs)):
            yield f"    {name}: {_WORDS[said.value]} · {_short(said.explanation)}"
    if len(differing) > _SHOWN:
        yield f"  and {len(differing) - _SHOWN} more"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"
