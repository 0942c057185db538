"""recipes/paper/data.yaml: every source of Appendix C with its mark, as a part that recipes lie over."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from masters.cli import app
from masters.config.load import load_recipe, load_sources
from masters.config.prepare import FilesSource, HubSource

ROOT = Path(__file__).parents[3]
DATA = ROOT / "recipes" / "paper" / "data.yaml"
APPENDIX_C = [  # in its order; what it filtered from others stands under the other's name
    "COCO-ReM", "iNaturalist2018", "VQA-v2", "Super-CLEVR", "MAVIS", "Geometry3K", "SQA", "AI2D", "SA-1B",
    "LLaVAR", "VSR", "TallyQA", "TabMWP", "KonIQ", "InternVL-filtered", "RLAI-F", "CLEVR-Math", "SROIE",
    "ChartQA", "DocVQA", "FigureQA", "GQA", "InfoVQA", "M3CoT", "MapQA", "OK-VQA", "TextVQA", "WildVision",
    "DVQA", "GeoQA+", "GeOS", "IconQA", "UniGEO", "GeomVerse", "Geo170K", "MathV360K", "Infinity-MM",
]  # fmt: skip
MARKS = {"listed": HubSource, "named": FilesSource, "own": FilesSource}
PUBLIC = {"HuggingFaceM4/the_cauldron", "lmms-lab/LLaVA-OneVision-Data", "LightChen2333/M3CoT"}


@pytest.fixture
def recipe(tmp_path):
    """One over the file, as docs/data.md has it."""
    for file in ("data.yaml", "_base.yaml"):
        (tmp_path / file).write_text((DATA.parent / file).read_text())
    text = (DATA.parent / "qwen2.5-vl-3b-from-32b.yaml").read_text()
    assert text.count("extends: _base.yaml") == 1
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("extends: _base.yaml", "extends: data.yaml"))
    return path


def test_every_source_of_the_appendix_is_there_with_its_mark():
    marked = re.findall(r"^    # (\S+): (not verified|verified), (\w+)\b.*\n    - \{type: \w+, name: ([\w.-]+)", DATA.read_text(), re.M)  # fmt: skip
    sources = {source.name: source for source in load_sources(DATA)[0].sources}
    assert {paper for paper, *_ in marked} == set(APPENDIX_C)
    assert [name for *_, name in marked] == [name for name in sources if name != "heldout"]
    for _, verified, mark, name in marked:
        assert verified == "not verified"  # until somebody has loaded it
        assert isinstance(sources[name], MARKS[mark]), name
    assert {source.path for source in sources.values() if isinstance(source, HubSource)} == PUBLIC
    assert {source.split for source in sources.values() if isinstance(source, FilesSource)} == {"train", "test"}


def test_a_recipe_lies_over_it(recipe):
    config = load_recipe(recipe)
    assert len(config.prepare.sources) == len(load_sources(DATA)[0].sources) == 39
    assert config.train.groups_per_step == 128  # of the base below
    assert config.name == "mine"


def test_check_reads_it(recipe, monkeypatch):
    monkeypatch.chdir(ROOT)
    checked = CliRunner().invoke(app, ["check", str(recipe), "--values", "k8s/chart/ci/paper-qwen.yaml"])
    assert checked.exit_code == 0, checked.exception
    assert f"{recipe}: fine. 5 levels" in checked.output
    looked = re.findall(r"cannot be read here, and may be on the cluster: prepare\.sources\[(.*?)\]", checked.output)
    assert len(looked) == 39
