"""A plan as people read it: a table of stages, what memory and disks hold, the paper's way, where numbers are from."""

import textwrap
from collections.abc import Iterator, Mapping

from masters.families.sizes import in_billions
from masters.planning.memory import GIB, MARGIN
from masters.planning.plan import Plan, StageCost, notes
from masters.planning.throughputs import NODE_NETWORK

_HEADINGS = ("stage", "rows", "tokens", "FLOP", "GPU-hours", "wall time", "on", "cost")
_LEFT = {0, 6}
_WIDTH = 120


def in_words(plan: Plan) -> str:
    """The whole screen."""
    gang = next(stage for stage in plan.stages if stage.stage == "train").pools[0]
    lines = [_models(plan), "", *_table(plan), ""]
    lines += [f"{'train':<9}{_steps(gang.details)}"]
    if gang.place.gpus:
        lines += [f"{'memory':<9}{_memory(plan, gang.place.kind.memory_gib)}"]
    if gang.place.nodes > 1:
        lines += [f"{'network':<9}{_network(gang.details)}"]
    lines += [f"{'disk':<9}{_disk(plan)}", "", *_paper(plan), "", *notes(plan)]
    return "\n".join(part for line in lines for part in _wrapped(line))


def _wrapped(line: str) -> list[str]:
    """Long lines go on below what they say, not below their name; the table stays as it is."""
    return textwrap.wrap(line, _WIDTH, subsequent_indent=" " * 9) if len(line) > _WIDTH else [line]


def _models(plan: Plan) -> str:
    sizes, config = plan.load.sizes, plan.load.config
    teachers = ", ".join(
        f"{entry.alias} {in_billions(size.parameters)}"
        for entry, size in zip(config.curriculum, sizes.teachers, strict=True)
    )
    lengths = plan.load.lengths
    return (
        f"{config.name}: student {in_billions(sizes.student.parameters)} from {teachers}; {plan.load.levels} levels, "
        f"{lengths.train:,} questions of {lengths.prompt_tokens:,.0f} tokens, {plan.load.shape.responses} answers of "
        f"{lengths.response_tokens:,.0f}"
    )


def _table(plan: Plan) -> Iterator[str]:
    rows = [list(_HEADINGS)]
    for stage in plan.stages:
        rows += _rows(stage)
    rows.append(["", "", "", "", _hours(plan.gpu_hours), duration(plan.seconds), "in all", _dollars(plan.price)])
    if plan.price is None:
        rows = [row[:-1] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.ljust(width) if column in _LEFT else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _rows(stage: StageCost) -> Iterator[list[str]]:
    """One line, and one for each pool where there are several."""
    pools = stage.pools
    tokens, flops = (sum(getattr(cost, name) for cost in pools) for name in ("tokens", "flops"))
    on = str(pools[0].place) if len({str(cost.place) for cost in pools}) == 1 else "as below"
    yield [
        stage.stage,
        quantity(sum(cost.rows for cost in pools)),
        quantity(tokens) if tokens else "",
        quantity(flops) if flops else "",
        _hours(stage.gpu_hours),
        duration(stage.seconds),
        on,
        _dollars(stage.price),
    ]
    if len(pools) > 1:
        for cost in pools:
            yield [
                f"  {cost.pool}",
                quantity(cost.rows),
                quantity(cost.tokens),
                quantity(cost.flops),
                _hours(cost.gpu_hours),
                duration(cost.seconds),
                str(cost.place),
                "",
            ]


def _steps(details: Mapping[str, float]) -> str:
    passes = f"{details['passes']:,.0f} {'pass' if details['passes'] == 1 else 'passes'} each"
    return (
        f"{details['steps']:,.0f} steps of {seconds_in_words(details['step_seconds'])}, {passes}; "
        f"{100 * details['balance']:.0f} % of the time a worker computes, else it waits for longer groups"
    )


def _memory(plan: Plan, gib: float) -> str:
    parts = sorted(plan.memory.parts.items(), key=lambda part: -part[1])
    listed = ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts if size >= 0.05 * GIB)
    host = sum(plan.memory.host.values()) / GIB
    peak = MARGIN * plan.memory.peak / GIB
    return (
        f"{peak:.0f} of {gib:.0f} GiB of a GPU in training ({listed}; 10 % more), {host:.0f} GiB of CPU memory a worker"
    )


def _network(details: Mapping[str, float]) -> str:
    gathers = ", ".join(
        f"{name.removeprefix('gather_')} {size / 1e9:.0f}"
        for name, size in details.items()
        if name.startswith("gather_")
    )
    hidden = "behind computing" if details["network"] <= details["computing"] else "longer than computing"
    took = f"{seconds_in_words(details['network'])} at {NODE_NETWORK / 1e9:.0f} GB/s between nodes, {hidden}"
    return f"GB that a worker receives in a step: {gathers}; {took}"


def _disk(plan: Plan) -> str:
    disk, keep = plan.disk, plan.load.config.train.keep_checkpoints + 1
    return (
        f"run {size_in_words(disk.run)} (images {size_in_words(disk.images)}, tables {size_in_words(disk.tables)}, "
        f"{keep} checkpoints {size_in_words(disk.checkpoints)}, students {size_in_words(disk.students)}); "
        f"each node: models {size_in_words(disk.models)}, scratch {size_in_words(disk.scratch)}"
    )


def _paper(plan: Plan) -> Iterator[str]:
    """Beside each other: ours, and what the paper did."""
    paper = plan.paper
    if paper is None:
        return
    teachers = plan.load.levels
    yield (
        f"the paper's way: {teachers} masked copies, {size_in_words(paper.disk.copies)}; every level answers every question; "
        "one row for each response"
    )
    planned = {cost.stage for cost in plan.stages}
    for stage in ("generate", "score", "train"):
        if stage not in planned:  # labels alone: nobody answers
            continue
        ours, theirs = (_of(side, stage) for side in (plan, paper))
        more = theirs.seconds / ours.seconds if ours.seconds else 1.0
        hours = f", {_hours(theirs.gpu_hours)} GPU-hours for {_hours(ours.gpu_hours)}" if ours.gpu_hours else ""
        yield f"  {stage:<9}{duration(theirs.seconds)} for {duration(ours.seconds)}: {more:.1f} times{hours}"


def _of(plan: Plan, stage: str) -> StageCost:
    return next(cost for cost in plan.stages if cost.stage == stage)


def quantity(number: float) -> str:
    """750, 9.6 k, 1.5 M, 2.3 B, 1.1e21."""
    if number >= 1e15:
        return f"{number:.1e}".replace("e+", "e")
    for scale, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if number >= scale:
            return f"{number / (1000 if unit == 'k' else scale):.1f} {unit}"
    return f"{number:,.0f}"


def duration(seconds: float) -> str:
    """42 s, 12 min, 5.2 h, 3.1 days."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    for scale, unit, most in ((60, "min", 100), (3600, "h", 72)):
        if seconds / scale < most:
            return f"{seconds / scale:.{0 if unit == 'min' and seconds >= 600 else 1}f} {unit}"
    return f"{seconds / 86400:.1f} days"


def seconds_in_words(seconds: float) -> str:
    """0.15 s, 12 s."""
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:,.0f} s"


def size_in_words(size: float) -> str:
    """Bytes, decimal."""
    for scale, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if size >= scale:
            return f"{size / scale:.{1 if size < 10 * scale or unit == 'TB' else 0}f} {unit}"
    return f"{size / 1e3:.0f} kB"


def _hours(hours: float) -> str:
    if not hours:
        return "-"
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.1f}"


def _dollars(price: float | None) -> str:
    return "-" if price is None else f"$ {price:,.0f}" if price >= 100 else f"$ {price:,.2f}"
