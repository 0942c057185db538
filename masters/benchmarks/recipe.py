"""The benchmarks that a recipe wants: which file, how it is asked, how long an answer may be."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from masters.benchmarks.facts import COLUMNS, LONGEST, PAPER, Benchmark, benchmark_named
from masters.benchmarks.files import md5_of, read
from masters.benchmarks.prompts import Style
from masters.config.run import RunConfig


@dataclass(frozen=True)
class Wanted:
    """One entry of `evaluate.benchmarks`, with what it leaves out filled in."""

    benchmark: Benchmark
    path: str
    style: Style
    max_tokens: int

    @property
    def name(self) -> str:
        """Of the benchmark."""
        return self.benchmark.name


def wanted(config: RunConfig) -> tuple[Wanted, ...]:
    """In the order of the recipe. No file is looked at.

    Raises:
        ValueError: for an unknown name, and where an answer's default length leaves no room for the prompt.
    """
    found = []
    for place, entry in enumerate(config.evaluate.benchmarks):
        where = f"evaluate.benchmarks[{place}]"
        try:
            benchmark = benchmark_named(entry.name)
        except ValueError as error:
            raise ValueError(f"{where}.name: {error}") from error
        longest = entry.max_tokens or LONGEST[benchmark.metric]
        if longest >= config.engine.max_model_len:
            raise ValueError(
                f"{where}.max_tokens = {longest}, the default for {benchmark.name}: leaves no room for the prompt in "
                f"engine.max_model_len {config.engine.max_model_len}. Set it, or raise engine.max_model_len."
            )
        found.append(Wanted(benchmark, entry.path, entry.prompt, longest))
    return tuple(found)


def parts(config: RunConfig) -> dict[str, dict[str, Any]]:
    """What scores depend on, by benchmark. Files are read for their md5. Raises ValueError as `wanted`, and for no file."""
    return {
        one.name: {"md5": md5_of(one.benchmark, one.path), "prompt": one.style, "max_tokens": one.max_tokens}
        for one in wanted(config)
    }


def look(config: RunConfig, *, elsewhere: bool) -> Iterator[str]:
    """What there is to say about the files, which are read whole; `elsewhere`: the run is for a cluster, which may have them.

    Raises:
        ValueError: as `wanted`, and where a file is not there, lacks a column, or has rows that cannot be used.
    """
    for one in wanted(config):
        try:
            file = read(one.benchmark, one.path)
        except ValueError as error:
            if not elsewhere:
                raise
            yield f"cannot be read here, and may be on the cluster: {error}"
            continue
        yield f"{one.name}: {len(file.questions):,} rows, answers of up to {one.max_tokens:,} tokens"
        yield from (f"{one.name}: {remark}" for remark in file.remarks)


def printed(benchmark: Benchmark, path: str) -> float | None:
    """What the paper prints for a model in the benchmark's column, in [0, 1]; None for a model that it does not show.

    Args:
        benchmark: any.
        path: of the model, untrained: its name on the hub, or a folder of that name.
    """
    name = PurePosixPath(path.partition("@")[0].rstrip("/")).name.removesuffix("-Instruct")
    return PAPER[name][COLUMNS.index(benchmark.column)] / 100 if name in PAPER else None
