"""Does the tiny run help, and what of it helps? Fresh students, controls at equal steps, one table: `make demo-seeds`.

Three students are trained from three seeds that were fixed before any was looked at. Each is taught by the tiny recipe's pipeline
for 1,200 steps of 16 questions and, on the same questions in the same order and for as many steps, by four controls:

    labels only         cross-entropy on the reference answers, no teacher
    unmasked            several responses and the unmasked teacher's JSD, no rewards
    no rewards          the masked curriculum, no rewards
    paper's weight      policy_weight 1 and advantages as they are

Every student answers questions about images of a seed of its own that no training draws and no setting was chosen on.
Intervals are 95 %, paired by question and clustered by image; the last one is over the students. What is finished stays.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from masters.data.samples import read_split
from masters.data.storage import Storage
from masters.reporting.statistics import Interval, accuracy_interval, paired_interval

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "tiny.yaml"
MASTERS = Path(sys.executable).with_name("masters")
SEEDS = (31, 32, 33)
T_95_TWO_DEGREES = 4.303
COMMON = (
    "evaluate.teachers=false",
    # The recipe's 300 steps of 32 gave the students of seeds 21 and 22 nothing that 2,100 questions could show.
    "prepare.sources[0].train_images=6400",
    "train.groups_per_step=16",
    "train.groups_per_micro_batch=16",
    "prepare.sources[0].test_images=700",
    # Two runs share the two cores of a small machine: each has one process.
    "resources.train.workers=1",
    *(f"resources.{stage}.{end}_actors=1" for stage in ("generate", "score", "evaluate") for end in ("min", "max")),
)
NO_REWARDS = ("train.policy_weight=0",)
CHAINS = {
    "masked": {
        "pipeline": (),
        "no rewards": NO_REWARDS,
        "paper's weight": ("train.policy_weight=1", "train.clamp_advantages=false"),
    },
    "unmasked": {
        "unmasked": ("curriculum[0].r_max=0", *NO_REWARDS),
        "labels only": (
            "curriculum[0].r_max=0",
            "generate.mix={teacher: 0, student: 0, label: 1}",
            "train.objective=sft",
        ),
    },
}
CONTROLS = ("labels only", "unmasked", "no rewards", "paper's weight")


def call(*arguments: str, log: Path) -> None:
    """Run the command; what it prints goes to a file."""
    with log.open("a") as stream:
        done = subprocess.run([MASTERS, *arguments], stdout=stream, stderr=subprocess.STDOUT, cwd=ROOT, check=False)
    if done.returncode:
        raise SystemExit(f"masters {' '.join(arguments)} failed; see {log}")


def train_student(folder: Path, seed: int) -> Path:
    """A fresh student, which finishes its own learning-rate decay."""
    student = folder / f"student-{seed}"
    if not (student / "training.json").exists():
        call("tiny", "train", "student", str(student), "--seed", str(seed), log=folder / f"student-{seed}.log")
    return student


def run_chain(folder: Path, seed: int, chain: str) -> None:
    """The variants of a chain, one after the other in one run directory: they share what comes before train."""
    name = f"{chain}-{seed}"
    for variant, overrides in CHAINS[chain].items():
        result = folder / "results" / f"{seed} {variant}.json"
        if result.exists():
            continue
        settings = (
            *COMMON, f"name={name}", f"storage={folder}", f"seed={seed}", f"prepare.sources[0].seed={100 + seed}",
            f"student.path={folder / f'student-{seed}'}", *overrides,
        )  # fmt: skip
        began = time.monotonic()
        call("run", str(RECIPE), *(f"--set={s}" for s in settings), log=folder / f"{name}.log")
        result.parent.mkdir(exist_ok=True)
        result.write_text(json.dumps(read_result(Storage(str(folder)).folder(name))))
        print(f"student {seed}  {variant:<15} done in {time.monotonic() - began:.0f} s", flush=True)


def read_result(run: Storage) -> dict[str, list]:
    """Per question of the test split, in position order: its image, and whether baseline and student were right."""
    test = read_split(run, "test", ["sample_id", "image_ids"])
    result: dict[str, list] = {"image": [names[0] for names in test["image_ids"].to_pylist()]}
    for model in ("baseline", "student"):
        table = run.read_table(f"evaluation/{model}/predictions.parquet", ["sample_id", "correct"])
        correct = dict(zip(*(table[name].to_pylist() for name in ("sample_id", "correct")), strict=True))
        result[model] = [correct.get(sample, False) for sample in test["sample_id"].to_pylist()]
    return result


def over_students(values: list[float]) -> str:
    """Mean with its t interval over the students."""
    mean = statistics.mean(values)
    half = T_95_TWO_DEGREES * statistics.stdev(values) / len(values) ** 0.5
    return points(Interval(mean, mean - half, mean + half, len(values)))


def points(interval: Interval) -> str:
    """In points, with the interval."""
    return f"{100 * interval.value:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"


def tabulate(folder: Path) -> None:
    """Print what came out, as Markdown, and write it beside the runs."""
    variants = ("pipeline", *CONTROLS)
    results = {
        (seed, v): json.loads((folder / "results" / f"{seed} {v}.json").read_text()) for seed in SEEDS for v in variants
    }
    questions = len(results[SEEDS[0], "pipeline"]["image"])
    print(f"\n{questions:,} held-out questions a student; points of accuracy gained over the student's own baseline\n")
    print(f"| | {' | '.join(f'student {seed}' for seed in SEEDS)} | mean over students |")
    print("|---|" + "---|" * (len(SEEDS) + 1))
    base = [accuracy_interval(results[seed, "pipeline"]["baseline"]).value for seed in SEEDS]
    print(f"| baseline | {' | '.join(f'{100 * b:.1f} %' for b in base)} | {100 * statistics.mean(base):.1f} % |")
    record: dict[str, list] = {}
    for variant in variants:
        gains = [gain(results[seed, variant], results[seed, variant]["baseline"]) for seed in SEEDS]
        record[variant] = [asdict(g) for g in gains]
        print(f"| {variant} | {' | '.join(map(points, gains))} | {over_students([g.value for g in gains])} |")
    for control in CONTROLS:
        gains = [gain(results[seed, "pipeline"], results[seed, control]["student"]) for seed in SEEDS]
        record[f"pipeline - {control}"] = [asdict(g) for g in gains]
        print(
            f"| pipeline − {control} | {' | '.join(map(points, gains))} | {over_students([g.value for g in gains])} |"
        )
    (folder / "table.json").write_text(json.dumps(record, indent=1))


def gain(result: dict[str, list], other: list[bool]) -> Interval:
    """The trained student against other answers to the same questions."""
    return paired_interval(other, result["student"], result["image"])


def main() -> None:
    """Students first, then both chains of each, two at a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "seeds", help="where runs and results go")
    folder = parser.parse_args().folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(2) as pool:
        for student in pool.map(lambda seed: train_student(folder, seed), SEEDS):
            print(f"{student.name}  {json.loads((student / 'training.json').read_text())['accuracy']:.3f}", flush=True)
        jobs = [pool.submit(run_chain, folder, seed, chain) for seed in SEEDS for chain in CHAINS]
        for job in jobs:
            job.result()
    tabulate(folder)


if __name__ == "__main__":
    main()
