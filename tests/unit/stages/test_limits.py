"""A recipe's limits of images: every model takes them, who depends on them has them, and digests hold them."""

import io
import json
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from masters.config.images import OWN_LIMITS, ImagesConfig
from masters.config.load import load_recipe, validate
from masters.config.problems import RecipeError
from masters.config.score import ModelJudge
from masters.data.rows import RawRow
from masters.data.storage import Storage
from masters.engines import masked_vllm
from masters.models.chat import ChatProcessor
from masters.models.folder import family_of
from masters.models.image_limits import check_limits, known_family, own_settings
from masters.stages import evaluate, generate, prepare, score, train
from masters.stages.shard_worker import EngineSpec, start_engine
from masters.training import students


def recipe(*overrides):
    return load_recipe("recipes/tiny.yaml", overrides)


def test_the_limits_of_a_recipe_are_checked_against_every_model(tmp_path):
    check_limits(recipe("images.max_pixels=6000"), fetch=True)
    check_limits(recipe(), fetch=True)
    with pytest.raises(ValueError, match=r"^.*models/tiny/student: images\.max_tiles = 6: is no limit of qwen2_5_vl"):
        check_limits(recipe("images.max_tiles=6"), fetch=False)
    low = shutil.copytree("models/tiny/teacher", tmp_path / "low")
    written = json.loads((low / "processor_config.json").read_text())
    written["image_processor"]["size"]["shortest_edge"] = 6001
    (low / "processor_config.json").write_text(json.dumps(written))
    with pytest.raises(
        ValueError, match=r"low: images\.max_pixels = 6000: the model's folder wants at least 6001 pixels"
    ):
        check_limits(recipe("images.max_pixels=6000", f"curriculum[0].path={low}"), fetch=False)
    named = ("student.path=Qwen/Qwen2.5-VL-3B-Instruct@main", "curriculum[0].path=someone/else")
    with pytest.raises(ValueError, match=r"^Qwen/Qwen2\.5-VL-3B-Instruct@main: images\.max_tiles = 6: is no limit"):
        check_limits(recipe("images.max_tiles=6", *named), fetch=False)
    check_limits(recipe("images.max_pixels=6000", *named), fetch=False)
    assert known_family("someone/else") is None


def test_prepare_refuses_before_it_starts_anything():
    with pytest.raises(ValueError, match=r"images\.max_tiles = 6: is no limit of qwen2_5_vl"):
        prepare.execute(recipe("images.max_tiles=6"), None, None)


def test_prepare_counts_prompts_within_the_limits(tmp_path, monkeypatch):
    """56 x 56 pixels are 4 tokens as the student's folder says."""
    buffer = io.BytesIO()
    Image.new("RGB", (56, 56)).save(buffer, "PNG")
    packed = pickle.dumps(RawRow(0, "r", "What is <img>?", "red", [buffer.getvalue()]))
    counts = []
    for given in ((), ("images.min_pixels=6000",)):
        config = recipe(*given)
        source, run = config.prepare.sources[0], Storage(str(tmp_path))
        table, _ = prepare._check_rows([("here", packed)], source, "chunk", config, run)
        counts += table["prompt_tokens"].to_pylist()
    assert counts[1] == counts[0] + 5


def test_an_engine_and_its_chat_are_within_the_limits(monkeypatch):
    engines = []
    monkeypatch.setattr(masked_vllm, "MaskedEngine", lambda *_, **options: engines.append(options["images"]))
    config = recipe("images.max_pixels=6000")
    loaded = start_engine(EngineSpec.of(config.student, config, 1), None, "0.00")
    assert engines == [config.images]
    assert loaded.chat.processor.image_processor.size.longest_edge == 6000


def test_a_student_is_written_with_the_limits(tmp_path, monkeypatch):
    monkeypatch.setattr(students.dist, "get_rank", lambda: 0)
    monkeypatch.setattr(students.dist, "barrier", lambda: None)
    base = Path("models/tiny/student")
    student = SimpleNamespace(folder=base, export=lambda folder: shutil.copytree(base, folder))
    chat = ChatProcessor(base, family_of(base), ImagesConfig(max_pixels=6000))
    cast, run = SimpleNamespace(trio=SimpleNamespace(student=student), chat=chat), Storage(str(tmp_path / "run"))
    students._export(cast, run, "student", tmp_path)
    assert own_settings(tmp_path / "run" / "student")["size"] == {"shortest_edge": 3136, "longest_edge": 6000}


@pytest.mark.parametrize("stage", [prepare, generate, train, evaluate])
def test_limits_are_in_the_digest_of_what_depends_on_them(stage):
    assert stage.parts(recipe("images.max_pixels=6000"))["images"] == {"max_pixels": 6000}
    assert "images" not in stage.parts(recipe())  # or runs of before would be done anew


def test_judges_read_no_images():
    judged = "score.judge={type: teacher, max_tokens: 32}"
    assert score.parts(recipe(judged)) == score.parts(recipe(judged, "images.max_pixels=6000"))
    config = recipe("images.max_pixels=6000")
    assert EngineSpec.of(config.student, config, 1).images == config.images
    assert EngineSpec.of(config.curriculum[0], config, 1).images == config.images
    judge = ModelJudge(type="model", path="of/another-family")
    assert EngineSpec.of(judge, config, 1).images == OWN_LIMITS


def test_training_sees_images_within_the_limits(monkeypatch):
    from masters.training import trio

    monkeypatch.setattr(trio, "Zero3Student", lambda *_, **__: None)
    monkeypatch.setattr(trio, "Zero3Frozen", lambda *_, **__: None)
    own, limited = (trio.Cast(recipe(*given), None, ()).chat for given in ((), ("images.max_pixels=6000",)))
    assert own.processor.image_processor.size.longest_edge != 6000
    assert limited.processor.image_processor.size.longest_edge == 6000


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (
            {"max_tiles": 6, "max_pixels": 10**6},
            "images.max_tiles = 6: limits tiles of InternVL, and pixels of Qwen are",
        ),
        (
            {"min_pixels": 9000, "max_pixels": 8000},
            "images.max_pixels = 8000: is below images.min_pixels 9000. Raise it",
        ),
        ({"max_tiles": 41}, "images.max_tiles = 41: input should be less than or equal to 40. Write 40 or less."),
        ({"max_tiles": 0}, "images.max_tiles = 0: input should be greater than or equal to 1. Write 1 or more."),
        ({"max_pixels": 0.5}, "images.max_pixels = 0.5: "),
        ({"max_pixel": 8000}, "images.max_pixel = 8000: is not a field of a recipe. Did you mean max_pixels?"),
    ],
)
def test_limits_that_no_model_takes(images, said):
    models = {"student": {"path": "a/b"}, "curriculum": [{"alias": "big", "path": "a/c"}]}
    with pytest.raises(RecipeError) as caught:
        validate({"name": "n", **models, "prepare": {"sources": [{"type": "charts"}]}, "images": images})
    assert [str(problem).startswith(said) for problem in caught.value.problems] == [True]
