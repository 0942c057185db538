"""Rows through the generate stage against bare vllm.LLM.generate on the same requests: the tiny teacher, 448 x 448 images, a CPU.

Both read the images from the run directory, ask the same model the same questions with the same seeds, and have the same engine
settings; starting the engine is left out of both. The stage also resets caches, drains each shard of 256 and writes its table;
it prepares the next shard meanwhile. Pairs in turn, so that a machine that slows down slows both.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROWS, PAIRS, SIDE = 512, 5, 448
SHARD, COUNT, TOKENS = 256, 4, 32
RECIPE = """
name: stage
storage: {storage}
student: {{path: {models}/student}}
curriculum: [{{alias: big, path: {models}/teacher}}]
prepare: {{sources: [{{type: llava, name: photos, path: {folder}/rows.jsonl, image_root: {folder}}}]}}
generate: {{mix: {{teacher: {count}, student: 0}}, max_tokens: {tokens}, shard_size: {shard}}}
score: {{judge: {{type: rule}}}}
evaluate: {{split: train, max_tokens: {tokens}}}
engine: {{max_model_len: 512}}
resources: {{engine: {{compile: false, kv_cache_gib: 1}}}}
"""


def write(folder: Path) -> Path:
    """The data and a recipe."""
    from masters.data.sources.charts import scene

    lines = []
    for number in range(ROWS):
        drawn = scene(5, number)
        drawn.image.resize((SIDE, SIDE)).save(folder / f"{number}.png")
        turns = [("human", f"<image>\n{drawn.questions[0].text}"), ("gpt", drawn.questions[0].answers[0])]
        row = {
            "id": str(number),
            "image": f"{number}.png",
            "conversations": [{"from": f, "value": v} for f, v in turns],
        }
        lines.append(json.dumps(row))
    (folder / "rows.jsonl").write_text("\n".join(lines))
    recipe = folder / "recipe.yaml"
    models = ROOT / "models" / "tiny"
    sizes = {"count": COUNT, "tokens": TOKENS, "shard": SHARD}
    recipe.write_text(RECIPE.format(storage=folder / "runs", models=models, folder=folder, **sizes))
    return recipe


def by_stage(recipe: Path) -> float:
    """Rows per second of the engine's time, through the pool."""
    from masters.config.load import load_recipe
    from masters.data.shards import cut
    from masters.data.storage import Storage
    from masters.reporting.progress import Tracker
    from masters.stages.cluster import disconnect
    from masters.stages.generate import GenerateTask
    from masters.stages.shard_pool import Job, run_shards
    from masters.stages.shard_worker import EngineSpec

    config = load_recipe(recipe, [])
    run = Storage(str(recipe.parent / "runs" / "stage"))
    run.delete("responses")
    job = Job(
        GenerateTask(config.generate, COUNT, config.seed),
        list(cut("big@r0.00", "0.00", "train", 0, ROWS, SHARD)),
        "teacher",
        config.resources.generate,
        EngineSpec.of(config.curriculum[0], config, 1),
    )
    use = run_shards([job], run, Tracker(ROWS, "questions", 0, lambda _: None))["teacher"]
    disconnect()
    assert len(run.names("responses")) == ROWS // SHARD
    return ROWS / (use["busy_seconds"] + use["waiting_seconds"] + use["switching_seconds"])


def bare(recipe: Path) -> float:
    """Rows per second of vLLM alone: one call with all rows."""
    from masters.config.load import load_recipe
    from masters.engines.masked_vllm import engine_environment

    config = load_recipe(recipe, [])
    os.environ.update(engine_environment(0, config.resources.engine))
    from vllm import LLM, SamplingParams

    from masters.data.image_shards import read_image
    from masters.data.samples import read_samples
    from masters.data.shards import response_seed
    from masters.data.storage import Storage
    from masters.models.chat import ChatProcessor, load_image
    from masters.models.folder import family_of
    from masters.models.prompts import messages

    folder = Path(config.curriculum[0].path)
    chat, run = ChatProcessor(folder, family_of(folder)), Storage(str(recipe.parent / "runs" / "stage"))
    llm = LLM(
        str(folder),
        max_model_len=config.engine.max_model_len,
        max_num_seqs=config.resources.engine.max_num_seqs,
        enforce_eager=True,
        kv_cache_memory_bytes=1 << 30,
        enable_chunked_prefill=False,
        max_num_batched_tokens=8192,
        limit_mm_per_prompt={"image": 1, "video": 0},
        seed=0,
    )
    began, generate = time.monotonic(), config.generate
    prompts, settings = [], []
    for row in read_samples(run, "train", 0, ROWS):
        images = [load_image(read_image(run, name)) for name in row["image_ids"]]
        prompts.append({"prompt": chat.prompt(messages(row)), "multi_modal_data": {"image": images}})
        settings.append(
            SamplingParams(
                n=COUNT,
                seed=response_seed(config.seed, row["sample_id"], "big@r0.00"),
                max_tokens=TOKENS,
                temperature=generate.temperature,
                top_p=generate.top_p,
                top_k=generate.top_k,
                repetition_penalty=generate.repetition_penalty,
            )
        )
    llm.generate(prompts, settings, use_tqdm=False)
    return ROWS / (time.monotonic() - began)


def main() -> None:
    """Pairs, each in processes of their own."""
    with tempfile.TemporaryDirectory() as place:
        recipe = write(Path(place))
        masters = Path(sys.executable).with_name("masters")
        subprocess.run([masters, "prepare", recipe], check=True, capture_output=True)
        found: dict[str, list[float]] = {"by_stage": [], "bare": []}
        for _ in range(PAIRS):
            for name, rates in found.items():
                done = subprocess.run(
                    [sys.executable, __file__, name, recipe], capture_output=True, text=True, check=True
                )
                rates.append(float(done.stdout.split()[-1]))
    ratios = [a / b for a, b in zip(found["by_stage"], found["bare"], strict=True)]
    for name, rates in found.items():
        print(f"{name:<9} {statistics.median(rates):6.1f} rows/s ({min(rates):.1f} to {max(rates):.1f})")
    print(
        f"the stage has {statistics.median(ratios):.2f} of bare vLLM's rows/s ({min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print({"by_stage": by_stage, "bare": bare}[sys.argv[1]](Path(sys.argv[2])))
    else:
        main()
