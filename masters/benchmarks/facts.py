"""The facts of each benchmark: the file, how it is asked and scored, and what of this nobody has verified.

Files are VLMEvalKit's tables, which the user brings; md5 sums are those that VLMEvalKit e8e78f05 checks. Numbers of rows and
questions come from cards and other harnesses' documentation, not from the files: another number is told beside the score.
"""

from dataclasses import dataclass
from typing import Literal

Metric = Literal["letter", "circular", "relaxed", "typed", "mmmu", "mmmu_pro", "graded"]
Asking = Literal["choice", "marked choice", "short", "bare", "pro", "image only"]


@dataclass(frozen=True)
class Benchmark:
    """One file of questions.

    Attributes:
        name: of VLMEvalKit's file, without .tsv.
        title: for people.
        column: of the paper's tables; files of one column count as one benchmark in the mean, each alike.
        metric: how an answer is scored.
        asking: which prompt (`masters.benchmarks.prompts`).
        md5: of the file.
        rows: of the file that count, those of `split` only; None where it is not known.
        questions: fewer than rows where a question is asked in several rotations; None as for rows.
        split: the value of the column `split` whose rows count; empty for all.
        data_set: where the questions come from, on the hub, with its split.
        licence: of the data set, as its card says; empty where nobody has looked it up.
        unverified: what is not known for sure, one phrase each.
    """

    name: str
    title: str
    column: str
    metric: Metric
    asking: Asking
    md5: str
    rows: int | None
    data_set: str
    questions: int | None = None
    split: str = ""
    licence: str = ""
    unverified: tuple[str, ...] = ()


_COUNTED = "number of rows: from documentation"
_ABOUT = "number of rows"


def _mmbench(part: str, language: str, version: str, md5: str) -> Benchmark:
    """A part (dev, test) of MMBench in a language (EN, CN)."""
    rows, questions = {"dev": (4329, 1164), "test": (6666, 1784)}[part] if version == "v1.0" else (None, None)
    return Benchmark(
        f"MMBench_{part.upper()}_{language}{'_V11' if version == 'v1.1' else ''}",
        f"MMBench {language} {version}, {part}",
        {"EN": "MMB", "CN": "MMB-CN"}[language],
        "circular",
        "choice",
        md5,
        rows,
        f"lmms-lab-encoder/MMBench {language.lower()} {part}" if version == "v1.0" else "",
        questions,
        unverified=(_COUNTED if rows else _ABOUT, "which version and part the paper reports"),
    )


_TABLE = (
    Benchmark(
        "AI2D_TEST",
        "AI2D, test, letters painted over the labels",
        "AI2D",
        "letter",
        "choice",
        "0f593e0d1c7df9a3d69bf1f947e71975",
        3088,
        "lmms-lab-encoder/ai2d test",
        unverified=(_COUNTED,),
    ),
    Benchmark(
        "ChartQA_TEST",
        "ChartQA, test: human and augmented",
        "ChartQA",
        "relaxed",
        "short",
        "c902e0aa9be5582a7aad6dcf52734b42",
        2500,
        "lmms-lab-encoder/ChartQA test",
        unverified=(_COUNTED,),
    ),
    Benchmark(
        "MathVista_MINI",
        "MathVista, testmini",
        "MathVista",
        "typed",
        "bare",
        "f199b98e178e5a2a20e7048f5dcb0464",
        1000,
        "AI4Math/MathVista testmini",
        licence="cc-by-sa-4.0",
        unverified=(_COUNTED, "whether the file has a column precision; else the decimals of the answer count"),
    ),
    _mmbench("dev", "EN", "v1.0", "b6caf1133a01c6bb705cf753bb527ed8"),
    _mmbench("test", "EN", "v1.0", "6939fadb0ce626fefc0bdc9c64efc528"),
    _mmbench("dev", "CN", "v1.0", "08b8fc3324a5ed74155350f57be69fbd"),
    _mmbench("test", "CN", "v1.0", "7e1239baf0ee4c8b513e19705a0f317e"),
    _mmbench("dev", "EN", "v1.1", "30c05be8f2f347a50be25aa067248184"),
    _mmbench("test", "EN", "v1.1", "8d1a704e791df6f5d9fb3ef782b65365"),
    _mmbench("dev", "CN", "v1.1", "593f9b5f6bea453d870a798b34ae4f37"),
    _mmbench("test", "CN", "v1.1", "156e6569f9547afb16603eca16e85373"),
    Benchmark(
        "MMVet",
        "MM-Vet",
        "MM-Vet",
        "graded",
        "bare",
        "748aa6d4aa9d4de798306a63718455e3",
        218,
        "lmms-lab-encoder/MMVet test",
        unverified=(_COUNTED, "which judge the paper asked"),
    ),
    Benchmark(
        "MMMU_DEV_VAL",
        "MMMU, validation",
        "MMMU",
        "mmmu",
        "marked choice",
        "585e8ad75e73f75dcad265dfd0417d64",
        900,
        "lmms-lab-encoder/MMMU validation",
        split="validation",
        unverified=(_COUNTED,),
    ),
    Benchmark(
        "MMMU_Pro_10c",
        "MMMU-Pro, standard with ten options",
        "MMMU-Pro",
        "mmmu_pro",
        "pro",
        "22cee868fe6b680d14b99bfff6db8172",
        1730,
        "MMMU/MMMU_Pro standard (10 options) test",
        unverified=(_COUNTED,),
    ),
    Benchmark(
        "MMMU_Pro_V",
        "MMMU-Pro, vision",
        "MMMU-Pro",
        "mmmu_pro",
        "image only",
        "d01441a87b3dbe721b5a04652ae38009",
        1730,
        "MMMU/MMMU_Pro vision test",
        unverified=(_COUNTED,),
    ),
    Benchmark(
        "MMStar",
        "MMStar",
        "MMStar",
        "letter",
        "choice",
        "e1ecd2140806c1b1bbf54b43372efb9e",
        1500,
        "Lin-Chen/MMStar val",
        unverified=(_COUNTED,),
    ),
    Benchmark(
        "BLINK",
        "BLINK, validation",
        "BLINK",
        "letter",
        "choice",
        "d5e8af148b10ac69f535ff7b23f3f989",
        1901,
        "BLINK-Benchmark/BLINK val",
        unverified=(_COUNTED,),
    ),
    Benchmark(
        "SEEDBench_IMG",
        "SEED-Bench, image part",
        "SEED",
        "letter",
        "choice",
        "68017231464752261a2526d6ca3a10c0",
        None,
        "lmms-lab-encoder/SEED-Bench test",
        licence="cc-by-nc-4.0",
        unverified=("number of rows: about 14,200",),
    ),
    Benchmark(
        "SEEDBench2_Plus",
        "SEED-Bench-2-Plus",
        "SEED2+",
        "letter",
        "choice",
        "e32d3216dc4f452b0fe497a52015d1fd",
        2277,
        "doolayer/SEED-Bench-2-Plus test",
        licence="cc-by-nc-4.0",
        unverified=(_COUNTED,),
    ),
    Benchmark(
        "RealWorldQA",
        "RealWorldQA, as multiple choice",
        "RWQA",
        "letter",
        "choice",
        "4de008f55dc4fd008ca9e15321dc44b7",
        765,
        "lmms-lab-encoder/RealWorldQA test",
        unverified=(_COUNTED, "that each row's options hold its answer (rows 105, 633 and 731 are doubted)"),
    ),
)
BENCHMARKS = {benchmark.name: benchmark for benchmark in _TABLE}

LONGEST: dict[Metric, int] = {
    "letter": 512, "circular": 512, "relaxed": 512, "typed": 2048, "mmmu": 2048, "mmmu_pro": 2048, "graded": 2048,
}  # fmt: skip
"""Tokens of an answer where a recipe does not say: the prompts of the first three ask for a letter or a word."""

OTHER_FILES = {
    "fd8f463634d4fe9fbd23b876e8eea5be": "AI2D_TEST_NO_MASK: boxes beside the labels, scores 6 to 9 points higher",
    "f44c9f19afda14262cd1e0731bd01f9e": "BLINK_circular, another task",
}
"""Files that are easily taken for one of the table, by md5."""

COLUMNS = (
    "AI2D", "ChartQA", "MathVista", "MMB", "MMB-CN", "MM-Vet", "MMMU", "MMMU-Pro", "MMStar", "BLINK", "SEED", "SEED2+",
    "RWQA",
)  # fmt: skip
"""Of the paper's tables 1 to 3, in order; its average is their plain mean."""


def benchmark_named(name: str) -> Benchmark:
    """The benchmark of a name. Raises ValueError for an unknown one."""
    if name not in BENCHMARKS:
        raise ValueError(f"no benchmark is called {name!r}. Name one of {', '.join(BENCHMARKS)}.")
    return BENCHMARKS[name]
