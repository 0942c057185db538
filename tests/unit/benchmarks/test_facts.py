import re

import pytest

from masters.benchmarks import BENCHMARKS, benchmark_named
from masters.benchmarks.facts import COLUMNS, OTHER_FILES


def test_every_column_of_the_paper_has_a_file():
    assert {benchmark.column for benchmark in BENCHMARKS.values()} == set(COLUMNS)
    assert len(COLUMNS) == 13


def test_sums_are_sums_and_each_file_has_its_own():
    sums = [benchmark.md5 for benchmark in BENCHMARKS.values()]
    assert all(re.fullmatch("[0-9a-f]{32}", md5) for md5 in (*sums, *OTHER_FILES))
    assert len({*sums, *OTHER_FILES}) == len(sums) + len(OTHER_FILES)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_what_nobody_has_verified_is_said(name):
    benchmark = BENCHMARKS[name]
    assert benchmark.name == name
    assert any("number of rows" in phrase for phrase in benchmark.unverified)
    assert (benchmark.metric == "circular") == name.startswith("MMBench")
    if benchmark.metric == "circular":
        assert benchmark.column == ("MMB-CN" if "_CN" in name else "MMB")
        assert (benchmark.rows is None) == name.endswith("_V11")


def test_mmbench_is_there_in_every_variant():
    names = {
        f"MMBench_{part}_{language}{v}" for part in ("DEV", "TEST") for language in ("EN", "CN") for v in ("", "_V11")
    }
    assert names == {name for name in BENCHMARKS if name.startswith("MMBench")}
    assert benchmark_named("MMBench_TEST_CN").questions == 1784


def test_an_unknown_name_is_told_the_known_ones():
    with pytest.raises(ValueError, match=r"no benchmark is called 'MMBench'\. Name one of AI2D_TEST, ChartQA_TEST"):
        benchmark_named("MMBench")
