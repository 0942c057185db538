"""What comes out of a finished run, for others: whole folders with their cards, the snippet for vLLM, a push by the real command."""

import os
import re
import subprocess
import sys

import pytest
from huggingface_hub import ModelCard
from PIL import Image

from masters.models.exported import side_files
from tests.hub_writing import WritableHub
from tests.stages.conftest import environment, masters

pytestmark = [pytest.mark.engine, pytest.mark.chain, pytest.mark.filterwarnings("default")]
NAME = "me/small-student"


def test_every_student_is_whole_and_has_a_card_with_its_scores(finished, trained):
    folders = ["train/student", *(f"train/levels/big@r0.{step}" for step in ("00", "20", "40"))]
    for folder in folders:
        for file in side_files(trained[0]):
            assert finished.run.read(f"{folder}/{file.name}") == file.read_bytes(), file.name
        level = folder.rpartition("/")[2] if "levels" in folder else "big@r0.00"
        found = finished.run.read_json(f"evaluation/student@{level}/scores.json")["accuracy"]
        data = ModelCard(finished.run.read(f"{folder}/README.md").decode()).data
        assert data.eval_results[0].metric_value == round(found["value"], 4)
        assert f"accuracy of {found['n']} questions" in data.eval_results[0].metric_name


@pytest.mark.slow
def test_the_snippet_for_vllm_runs(finished, tmp_path):
    masters("push", finished.recipe, "--to", tmp_path / "student")
    card = (tmp_path / "student" / "README.md").read_text()
    snippet = re.search(r"```python\n(from PIL.*?)```", card, re.DOTALL)[1]
    Image.new("RGB", (64, 48), "red").save(tmp_path / "chart.png")
    for there, here in (("path/to/this/folder", "student"), ("chart.png", "chart.png")):
        assert f'"{there}"' in snippet
        snippet = snippet.replace(f'"{there}"', repr(str(tmp_path / here)))
    # Compiling takes a minute on a CPU, and changes no answer.
    snippet = snippet.replace("llm = LLM(", "llm = LLM(enforce_eager=True, model=")
    variables = {**environment(), "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", f"if __name__ == '__main__':\n    exec({snippet!r})"],
        env=variables, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1].strip()


def test_the_command_pushes_the_chosen_student(finished, tmp_path):
    chosen = finished.run.read_json("evaluation/chosen.json")
    with WritableHub({}, tokens={finished.secret: "me"}) as hub:
        asked = {
            key: value for key, value in hub.environment(tmp_path / "home").items() if os.environ.get(key) != value
        }
        done = masters("push", finished.recipe, NAME, **asked, HF_TOKEN=finished.secret)
        assert f"pushed   {hub.address}/{NAME}" in done.stdout
        there = hub.repositories[NAME].branches["main"]
        assert there["model.safetensors"] == finished.run.read(f"{chosen['folder']}/model.safetensors")
        assert hub.repositories[NAME].private
        assert finished.secret not in done.stdout + done.stderr
        assert not any(finished.secret.encode() in content for content in there.values())
        refused = masters("push", finished.recipe, NAME, check=False, **asked, HF_TOKEN="hf_wrong")
        assert (refused.returncode, "does not know the token in HF_TOKEN" in refused.stderr) == (1, True)
