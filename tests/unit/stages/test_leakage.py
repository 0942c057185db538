"""Images of train that are evaluated, too: found, told, refused; looked for again only where something changed."""

import base64
import json
from importlib.resources import files

import jinja2
import pytest

from masters.config.load import load_recipe
from masters.config.prepare import LeakageConfig
from masters.config.problems import RecipeError
from masters.data.leakage import FOUND, HASHED
from masters.data.manifests import Manifest, write_manifest
from masters.reporting.cleanliness import duplicates_of, leaks_of
from masters.reporting.progress import Screen
from masters.stages import leakage, ordering
from masters.stages.leakage import check_leakage
from perf.duplicate_images import draw
from tests.unit.benchmarks.tables import write
from tests.unit.data.test_duplicates import Cleaning, stored

BARS, PAGE, TABLE = draw("bars", 5), draw("page", 1), draw("table", 2)
FILES = {
    "bars.png": stored(BARS),
    "page.png": stored(PAGE),
    "table.png": stored(TABLE),
    "lines.png": stored(draw("lines", 3)),
    "bars.webp": stored(BARS, "WEBP", lossless=True),
    "bars.jpg": stored(BARS, "JPEG", quality=50),
    "bars.half.png": stored(BARS.resize((BARS.width // 2, BARS.height // 2))),
    "bars.twin.png": stored(draw("bars", 5, 1)),
    "shapes.png": stored(draw("shapes", 7)),
    "photo.png": stored(draw("photo", 8)),
}
TRAIN = ["bars.png", "page.png", "table.png"]


class Checking(Cleaning):
    """A run whose prepare is done, and a benchmark."""

    asked: tuple[str, ...] = ()
    test: tuple[str, ...] = ("lines.png",)

    def prepared(self, hashed=True, **rules):
        """The recipe; `hashed`: whether prepare had the rules already."""
        for name, content in FILES.items():
            (self.folder / name).write_bytes(content)
        rows = [
            {"index": str(at), "question": f"What is {at}?", "A": "red", "B": "blue", "answer": "B", "category": "c", "image": base64.b64encode(FILES[name]).decode()}
            for at, name in enumerate(self.asked)
        ]  # fmt: skip
        write(self.folder / "MMStar.tsv", rows)
        benchmarks = [{"name": "MMStar", "path": f"{self.folder}/MMStar.tsv", "max_tokens": 8}] if self.asked else []
        splits = {"train": TRAIN, "test": self.test}
        files = self.files({name: [row(at, image) for at, image in enumerate(its)] for name, its in splits.items()})
        self.rules = {"leakage": LeakageConfig(**rules) if hashed else None}
        config = self.config(files, evaluate={"benchmarks": benchmarks})
        ordering.put_in_order(self.chunks(config)[0], config, self.run, Screen(self._screen))
        if hashed:
            self.run.write_json(HASHED, {})
        write_manifest(self.run, Manifest("prepare", "d1", {}, "done", {"train": len(TRAIN)}))
        return config.model_copy(
            update={"prepare": config.prepare.model_copy(update={"leakage": LeakageConfig(**rules)})}
        )

    def check(self, config):
        check_leakage(config, self.run, Screen(self._screen))
        return {one["name"]: one for one in self.run.read_json(FOUND)["found"]}


def row(number, image):
    turns = [{"from": "human", "value": f"What is {number}?"}, {"from": "gpt", "value": "A cat."}]
    return {"id": number, "image": image, "conversations": turns}


@pytest.fixture
def checking(tmp_path, trained, monkeypatch):
    monkeypatch.setattr(ordering, "map_tasks", lambda function, items, *told: [function(item, *told) for item in items])
    monkeypatch.setattr("masters.stages.cluster.connect", lambda: None)
    return Checking(tmp_path, trained[0])


@pytest.mark.parametrize("hashed", [True, False], ids=["with prepare", "afterwards"])
@pytest.mark.parametrize(
    ("asked", "exact", "perceptual", "pairs"),
    [
        (["shapes.png", "lines.png"], 0, 0, []),
        (["bars.png", "shapes.png"], 1, 0, [("0", "train/0", "exact")]),
        (["shapes.png", "bars.webp"], 1, 0, [("1", "train/0", "exact")]),
        (["bars.jpg", "bars.half.png"], 0, 2, [("0", "train/0", "perceptual"), ("1", "train/0", "perceptual")]),
        (["bars.twin.png", "photo.png"], 0, 0, []),
        (["bars.png", "bars.png", "table.png"], 2, 0, [("0", "train/0", "exact"), ("2", "train/2", "exact")]),
    ],
    ids=["none", "the file", "its pixels", "what looks the same", "a twin", "each image once"],
)
def test_images_of_a_benchmark_in_train(checking, hashed, asked, exact, perceptual, pairs):
    checking.asked = tuple(asked)
    found = checking.check(checking.prepared(hashed, most=1.0))["MMStar"]
    assert (found["exact"], found["perceptual"], found["images"]) == (exact, perceptual, len(set(asked)))
    table = checking.run.read_table("leakage/MMStar.parquet").to_pylist()
    assert [tuple(pair.values()) for pair in table] == pairs
    assert found["examples"] == table
    assert f"MMStar: {len(pairs)} of {len(set(asked))} images in train, too" in checking.printed.replace("\n", " ")


def test_images_of_the_split_that_is_evaluated(checking):
    checking.test = ("lines.png", "page.png")
    config = checking.prepared(most=0.5)
    found = checking.check(config)
    assert list(found) == ["test"]
    assert found["test"]["examples"] == [{"evaluated": "test/1", "train": "train/1", "kind": "exact"}]
    (told,) = leaks_of(checking.run)
    assert (told["share"], told["examples"]) == ("50.00 %", "test/1 is in train/1")
    with pytest.raises(ValueError, match=r"prepare\.leakage\.most = 0\.49: .*test: 1 of 2 images in train, too"):
        checking.check(
            config.model_copy(
                update={"prepare": config.prepare.model_copy(update={"leakage": LeakageConfig(most=0.49)})}
            )
        )


@pytest.mark.parametrize(
    ("rules", "refused"),
    [
        ({}, ["MMStar", "test"]),
        ({"allow": ("MMStar",)}, ["test"]),
        ({"allow": ("MMStar", "test")}, []),
        ({"most": 0.6}, ["MMStar"]),
        ({"most": 0.67}, []),
    ],
)
def test_more_than_the_threshold_is_refused_unless_it_is_allowed(checking, rules, refused):
    checking.asked, checking.test = ("bars.png", "page.png", "shapes.png"), ("lines.png", "page.png")
    config = checking.prepared(**rules)
    if not refused:
        checking.check(config)
        return
    with pytest.raises(ValueError, match=r"^prepare\.leakage\.most = ") as caught:
        checking.check(config)
    text = str(caught.value)
    assert text.endswith(f"or allow it: prepare.leakage.allow: [{', '.join(refused)}].")
    assert ("0 is in train/0" in text) == ("MMStar" in refused)
    assert text.index(refused[0]) < text.index(refused[-1]) or len(refused) == 1  # the worst first


def test_it_is_looked_for_again_only_where_something_changed(checking, monkeypatch):
    checking.asked = ("bars.png", "shapes.png")
    looked, search = [], leakage.search
    monkeypatch.setattr(leakage, "search", lambda item, *told: looked.append(item) or search(item, *told))
    config = checking.prepared(most=1.0)
    checking.check(config)
    checking.check(config)
    with pytest.raises(ValueError, match="MMStar"):  # the threshold alone needs no other look
        checking.check(
            config.model_copy(update={"prepare": config.prepare.model_copy(update={"leakage": LeakageConfig()})})
        )
    assert len(looked) == 2  # the benchmark, and test
    path = checking.folder / "MMStar.tsv"
    path.write_text(path.read_text() + path.read_text().splitlines()[-1].replace("1\t", "2\t", 1) + "\n")
    checking.check(config)
    assert len(looked) == 4
    write_manifest(checking.run, Manifest("prepare", "d2", {}, "done", {}))
    checking.check(config)
    assert len(looked) == 6


def test_nothing_is_done_where_it_is_not_wanted(checking):
    checking.asked = ("bars.png",)
    config = checking.prepared(hashed=False)
    check_leakage(
        config.model_copy(update={"prepare": config.prepare.model_copy(update={"leakage": None})}),
        checking.run,
        Screen(),
    )
    assert not checking.run.exists(FOUND)
    assert not checking.run.names("hashes")
    assert list(leaks_of(checking.run)) == []
    assert duplicates_of({}) == []


def test_a_name_that_is_not_evaluated_is_refused(tmp_path):
    benchmarks = json.dumps([{"name": "MMStar", "path": str(tmp_path)}])
    settings = [f"evaluate.benchmarks={benchmarks}", "prepare.leakage={allow: [MMStarr]}"]
    with pytest.raises(RecipeError, match=r"prepare\.leakage\.allow\[0\] = MMStarr: .*MMStar, test"):
        load_recipe("recipes/tiny.yaml", settings)
    load_recipe("recipes/tiny.yaml", [settings[0], "prepare.leakage={allow: [MMStar, test]}"])


def test_the_report_shows_both(checking):
    checking.asked = ("bars.png", "bars.half.png", "shapes.png")
    checking.check(checking.prepared(most=1.0))
    text = (files("masters.reporting") / "templates" / "report.html.j2").read_text()
    part = text[text.index("{% if duplicates %}") :].partition("</section>")[0]
    cases = [
        {"kind": kind, "source": "a", "of": "b", "rows": rows, "other_answer": 3}
        for kind, rows in (("exact", 7), ("perceptual", 1200))
    ]
    template = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=True).from_string(part)
    shown = " ".join(
        template.render(duplicates=duplicates_of({"duplicates": cases}), leaks=list(leaks_of(checking.run))).split()
    )
    assert shown.index("1,200") < shown.index("exact</td>")  # the most first
    assert "0 is in train/0; 1 is in train/0" in shown
    assert "66.67 %" in shown
