"""The benchmarks that a recipe wants: which file, how it is asked, how long an answer may be."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from masters.benchmarks.facts import LONGEST, Benchmark, benchmark_named
from masters.benchmarks.files import md5_of, read
from masters.benchmarks.prompts import Style
from masters.config.run import RunConfig

_ROUGHLY = {"SEEDBench_IMG": 14_200, "_DEV_": 4_300, "_TEST_": 7_000}
"""Rows where nobody has documented them; MMBench v1.1 by its part."""


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


def rows_expected(benchmark: Benchmark) -> int:
    """Rows that a model is asked, for plans: as documented, or about so many."""
    part = "_DEV_" if "_DEV_" in benchmark.name else "_TEST_"
    return benchmark.rows or _ROUGHLY.get(benchmark.name) or _ROUGHLY[part]


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
