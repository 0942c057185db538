"""Rows per second and core of prepare's readers and checks, against `datasets.map` with the model's processor on the same rows.

Both open every image, decode it and count the tokens of the prompt; the counts are compared row by row. Ours also checks the
rows, and writes samples and images. Then the driver's memory while `masters prepare` takes 100,000 and 300,000 short rows.
"""

import json
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import datasets
from PIL import Image

from masters.config.load import validate
from masters.config.run import RunConfig
from masters.data.sources.readers import parts_of
from masters.data.storage import Storage
from masters.models.chat import ChatProcessor, load_image
from masters.models.folder import family_of
from masters.models.prompts import messages
from masters.stages import prepare

STUDENT = Path(__file__).parents[1] / "models" / "tiny" / "student"
SIZES = {(64, 64): 4000, (512, 512): 400, (1024, 768): 120}
QUESTIONS = 3
MEMORY_ROWS = (100_000, 300_000)


def write_rows(folder: Path, size: tuple[int, int], rows: int) -> Path:
    """LLaVA lines with QUESTIONS questions about each photograph-like JPEG."""
    rng, lines = random.Random(0), []
    for number in range(rows):
        name = f"{number // QUESTIONS}.jpg"
        if number % QUESTIONS == 0:
            small = Image.effect_noise((max(8, size[0] // 8), max(8, size[1] // 8)), 60).convert("RGB")
            small.resize(size).save(folder / name, "JPEG", quality=90)
        words = " ".join(rng.choices(["which", "colour", "is", "the", "large", "bar", "left", "of", "it"], k=12))
        turns = [{"from": "human", "value": f"<image>\n{words}?"}, {"from": "gpt", "value": f"Answer {number}."}]
        lines.append(json.dumps({"id": number, "image": name, "conversations": turns}))
    (folder / "rows.jsonl").write_text("\n".join(lines))
    return folder / "rows.jsonl"


def recipe(path: Path, folder: Path) -> dict[str, Any]:
    """A recipe over one source."""
    return {
        "name": "perf",
        "storage": str(folder),
        "student": {"path": str(STUDENT)},
        "curriculum": [{"alias": "t", "path": str(STUDENT), "r_max": 0.2, "mask_step": 0.1}],
        "prepare": {"sources": [{"type": "files", "name": "rows", "path": str(path)}]},
        "engine": {"max_model_len": 4096},
        "evaluate": {"split": "train"},
    }


def ours(config: RunConfig, run: Storage) -> tuple[float, dict[str, int]]:
    """CPU seconds of what Ray's tasks do for all rows, and the tokens of each prompt."""
    import pickle

    import pyarrow as pa

    counted: dict[str, int] = {}
    counter = prepare._counter(config.student.path, config.hub_token_env)
    whole = counter.prompt

    def noted(sample, sizes):
        counted[sample["sample_id"].partition("/")[2]] = tokens = whole(sample, sizes)
        return tokens

    counter.prompt = noted
    began = time.process_time()
    (source,) = config.prepare.sources
    for part in parts_of(source, ""):
        for name, rows, ending in prepare._chunks(source, part, config, run):
            batch = {"source": [0], "name": [name], "rows": [pickle.dumps((rows, ending))]}
            prepare._check(pa.table(batch), config, run)
    seconds = time.process_time() - began
    del counter.prompt
    return seconds, counted


def rival(path: Path) -> tuple[float, dict[str, int]]:
    """CPU seconds of datasets.map with the processor, one process, and the tokens of each prompt."""
    chat = ChatProcessor(STUDENT, family_of(STUDENT))

    def count(row):
        content = (path.parent / row["image"]).read_bytes()
        question = row["conversations"][0]["value"]
        sample = {"system": None, "history": [], "question": question, "image_ids": [row["image"]]}
        return {"tokens": len(chat.encode(messages(sample), [load_image(content)]).input_ids)}

    loaded = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(path.parent / "cache"))
    began = time.process_time()
    table = loaded.map(count)
    seconds = time.process_time() - began
    return seconds, {str(key): tokens for key, tokens in zip(table["id"], table["tokens"], strict=True)}


def driver_memory(rows: int) -> tuple[float, float]:
    """Peak memory of the driver of `masters prepare` over rows of text in MiB, and wall seconds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        with open(path, "w") as stream:
            for number in range(rows):
                turns = [
                    {"from": "human", "value": f"What is {number} plus 1?"},
                    {"from": "gpt", "value": f"{number + 1}"},
                ]
                stream.write(json.dumps({"id": number, "conversations": turns}) + "\n")
        (Path(folder) / "perf.yaml").write_text(json.dumps(recipe(path, Path(folder))))
        began = time.monotonic()
        command = [str(Path(sys.executable).with_name("masters")), "prepare", str(Path(folder) / "perf.yaml")]
        driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        peak = 0
        while driver.poll() is None:
            status = Path(f"/proc/{driver.pid}/status")
            found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
            peak = max(peak, int(found[1]) if found else 0)
            time.sleep(0.2)
        assert driver.returncode == 0, driver.stdout.read()
        return peak / 1024, time.monotonic() - began


def main() -> None:
    """Both in turn on each size of image; then the driver's memory."""
    datasets.disable_progress_bars()
    for size, rows in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = write_rows(Path(folder), size, rows)
            slow, expected = rival(path)
            fast, found = ours(validate(recipe(path, Path(folder))), Storage(f"{folder}/run"))
            assert found == expected, "the counted tokens differ"
            print(
                f"{size[0]} x {size[1]}: prepare {rows / fast:,.0f} rows per CPU-second, datasets.map with the processor "
                f"{rows / slow:,.0f}: {slow / fast:.1f} times as long"
            )
    peaks = []
    for rows in MEMORY_ROWS:
        peak, seconds = driver_memory(rows)
        peaks.append(peak)
        print(
            f"{rows:,} rows: the driver's peak is {peak:,.0f} MiB; {rows / seconds:,.0f} rows/s with start and end of Ray"
        )
    growth = (peaks[-1] - peaks[0]) / (MEMORY_ROWS[-1] - MEMORY_ROWS[0])
    print(f"that is {1e6 * growth:,.0f} MiB for a million rows more")


if __name__ == "__main__":
    main()
