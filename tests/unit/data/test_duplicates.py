"""Rows that repeat earlier ones, from files to samples: duplicates.yaml holds the cases; and leaks into what is evaluated."""

import io
import json
from pathlib import Path

import pytest
import yaml
from PIL import Image, ImageDraw

from masters.config.prepare import LeakageConfig
from masters.data import staging
from masters.data.samples import read_split
from masters.reporting.progress import Screen
from masters.stages import duplicates, ordering, prepare
from perf.duplicate_images import draw
from tests.unit.data.test_prepare import Preparing

CASES = yaml.safe_load((Path(__file__).parent / "duplicates.yaml").read_text())


def stored(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def pictures():
    """Name -> file."""
    bars, page = draw("bars", 5), draw("page", 1)
    logo, flag, exif = Image.new("RGBA", (90, 60), "#ff000000"), Image.new("RGB", (90, 60), "white"), Image.Exif()
    for image in (logo, flag):
        ImageDraw.Draw(image).rectangle((10, 10, 40, 30), fill="#2030a0")
    exif[0x0112] = 6  # shown a quarter turn clockwise
    width, height = bars.size
    red = bars.copy()
    bar = red.getpixel((width // 2, int(height * 0.8)))
    pixels = [(200, 30, 60) if pixel == bar and pixel != (255, 255, 255) else pixel for pixel in red.getdata()]
    red.putdata(pixels)
    grain = Image.effect_noise((300, 200), 1).point(lambda value: 255 - abs(value - 128)).convert("RGB")
    return {
        "bars": stored(bars),
        "bars.webp": stored(bars, "WEBP", lossless=True),
        "bars.bmp": stored(bars, "BMP"),
        "bars.jpg": stored(bars, "JPEG", quality=40),
        "bars.half": stored(bars.resize((width // 2, height // 2))),
        "bars.double": stored(bars.resize((width * 2, height * 2), Image.Resampling.BICUBIC)),
        "bars.cut": stored(bars.crop((0, 0, width - width // 50, height - height // 50))),
        "bars.turned": stored(bars.rotate(90, expand=True), "JPEG", quality=95, exif=exif),
        "bars.wrong": stored(bars, "JPEG", quality=95, exif=exif),
        "bars.twin": stored(draw("bars", 5, 1)),
        "bars.red": stored(red),
        "page": stored(page),
        "page.jpg": stored(page, "JPEG", quality=60),
        "page.twin": stored(draw("page", 1, 1)),
        "logo": stored(logo),
        "logo.flat": stored(Image.alpha_composite(Image.new("RGBA", logo.size, "white"), logo).convert("RGB")),
        "logo.under": stored(logo.convert("RGB")),
        "flag": stored(flag),
        "flag.gif": stored(flag, "GIF", save_all=True, append_images=[Image.new("RGB", flag.size, "red")]),
        "white": stored(Image.new("RGB", (300, 200), "white")),
        "white.wide": stored(Image.new("RGB", (301, 200), "white")),
        "white.grain": stored(grain),
        "black": stored(Image.new("RGB", (300, 200), "black")),
        "dot": stored(Image.new("RGB", (1, 1), "white")),
        "dot.black": stored(Image.new("RGB", (1, 1), "black")),
        "icon": stored(flag.resize((12, 8))),
        "icon.other": stored(flag.resize((12, 8)).point(lambda value: max(0, value - 3))),
    }


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for name, content in pictures().items():
        (folder / name).write_bytes(content)
    return folder


class Cleaning(Preparing):
    """Prepares with rules of its own."""

    rules: dict = {}  # noqa: RUF012

    def config(self, sources, **changes):
        config = super().config(sources, **changes)
        return config.model_copy(update={"prepare": config.prepare.model_copy(update=self.rules)})


@pytest.fixture
def cleaning(tmp_path, trained, monkeypatch):
    monkeypatch.setattr(ordering, "map_tasks", lambda function, items, *told: [function(item, *told) for item in items])
    return Cleaning(tmp_path, trained[0])


def sources(case, folder, images):
    """The case's rows as files of two sources, with as many others as every run needs; `suffix` is of the second one."""
    filler = "| Filler {} | yes | a, {}"
    lines = [*case["rows"], *(filler.format(at, split) for at, split in enumerate(("train", "train", "test")))]
    files = {"a": [], "b": []}
    for number, line in enumerate(lines):
        names, said, answer, *place = (part.strip() for part in line.split("|"))
        source, _, split = place[0].partition(", ") if place else ("a", "", "")
        *history, question = said.split(" >> ")
        turns = [
            {"from": "human" if at % 2 == 0 else "gpt", "value": text}
            for at, text in enumerate([*history, question, answer])
        ]
        for turn in turns[1:-1:2]:
            turn["loss"] = False
        record = {"id": number, "image": names.split(), "conversations": turns, "split": split or "train"}
        files[source].append(record)
    found = []
    for name, records in files.items():
        if records:
            (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, records)))
            found.append({"type": "files", "name": name, "path": f"{folder}/{name}.jsonl", "image_root": str(images)})
    if "suffix" in case:
        found[-1]["prompt_suffix"] = case["suffix"]
    return found


def left_out(run):
    """{row: row that is kept} by the table that was written, and {row: kind}."""
    rows = run.read_table(duplicates.TABLE).to_pylist() if run.exists(duplicates.TABLE) else []
    number = {row["row"].partition("#")[0]: row for row in rows}
    of = {int(name): int(row["detail"].partition("/")[2].split()[0].partition("#")[0]) for name, row in number.items()}
    return of, {int(name): row["reason"] for name, row in number.items()}


@pytest.mark.parametrize(("kind", "rows"), [("exact", 512), ("perceptual", 512), ("perceptual", 1)])
@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_cases(case, kind, rows, cleaning, images, monkeypatch, tmp_path):
    """In chunks of any size the same rows are left out, and told."""
    monkeypatch.setattr(staging, "ROWS", rows)
    cleaning.rules = {"deduplicate": kind}
    counts, _ = cleaning(sources(case, tmp_path, images))
    wanted = case.get(kind, case["exact"])
    of, kinds = left_out(cleaning.run)
    assert of == wanted
    also = {row for row, kept in case["exact"].items() if kept == of.get(row)} if kind == "perceptual" else set(of)
    assert all(kinds[row] == "exact duplicate" for row in also)
    samples = [row["sample_id"] for split in ("train", "test") for row in read_split(cleaning.run, split).to_pylist()]
    numbers = sorted(int(name.partition("/")[2].partition("#")[0]) for name in samples)
    assert numbers == [row for row in range(len(case["rows"]) + 3) if row not in wanted]
    assert counts["rows"] == len(numbers) + len(of)
    assert counts["rejects"] == {}
    assert sum(told["rows"] for told in counts["duplicates"]) == len(of)


def test_what_is_left_out_is_told_by_kind_and_source(cleaning, images, tmp_path):
    cleaning.rules = {"deduplicate": "perceptual"}
    rows = [
        "bars | What? | a",
        "bars | What? | b | b",
        "bars.jpg | What? | a | b",
        "page | What? | a",
        "page | What? | a",
    ]
    counts, _ = cleaning(sources({"rows": rows}, tmp_path, images))
    assert counts["duplicates"] == [
        {"kind": "exact", "source": "a", "of": "a", "rows": 1, "other_answer": 0},
        {"kind": "exact", "source": "b", "of": "a", "rows": 1, "other_answer": 1},
        {"kind": "perceptual", "source": "b", "of": "a", "rows": 1, "other_answer": 0},
    ]
    assert (counts["sources"]["b"]["duplicates"], counts["sources"]["b"]["splits"]) == (2, {"train": 0})
    printed = " ".join(cleaning.printed.split())
    assert "b: 2 rows: 0 train; 2 duplicates left out" in printed
    assert "a: 6 rows: 4 train, 1 test; 1 duplicate left out; images a row" in printed
    assert "another" not in printed  # no warning of rows that are gone


def test_off_nothing_is_hashed_and_the_digest_is_as_before(cleaning, images, tmp_path):
    given = sources({"rows": ["bars | What? | a", "bars | What? | a"]}, tmp_path, images)
    counts, _ = cleaning(given)
    assert (counts["train"], counts["duplicates"]) == (4, [])
    for name in cleaning.run.names("staging", ".parquet"):
        assert not any(cleaning.run.read_table(name)["hashes"].to_pylist())
    told = {}
    for name, rules in {
        "off": {},
        "exact": {"deduplicate": "exact"},
        "perceptual": {"deduplicate": "perceptual"},
        "leakage": {"leakage": LeakageConfig(most=0.5)},
    }.items():
        cleaning.rules = rules
        told[name] = prepare.parts(cleaning.config(given))
    assert told["off"] == told["leakage"]  # it changes no sample
    assert {name: parts.get("prepare.deduplicate") for name, parts in told.items()} == {
        "off": None,
        "exact": "exact",
        "perceptual": "perceptual",
        "leakage": None,
    }


def test_rows_that_were_staged_without_hashes_are_read_again(cleaning, images, tmp_path):
    given = sources({"rows": ["bars | What? | a", "bars | What? | a"]}, tmp_path, images)
    assert cleaning.chunks(cleaning.config(given))[1] == 5
    cleaning.rules = {"leakage": LeakageConfig()}
    for read in (5, 0):
        assert cleaning.chunks(cleaning.config(given))[1] == read
    cleaning.rules = {}
    assert cleaning.chunks(cleaning.config(given))[1] == 0


def test_the_first_row_stays_also_where_chunks_were_there_already(cleaning, images, tmp_path):
    """A staged chunk has its rows in the order of the permutation, not of the source."""
    cleaning.rules = {"deduplicate": "exact"}
    config = cleaning.config(sources({"rows": ["bars | What? | a"] * 12}, tmp_path, images))
    for _ in range(2):
        ordering.put_in_order(cleaning.chunks(config)[0], config, cleaning.run, Screen(io.StringIO()))
        assert left_out(cleaning.run)[0] == dict.fromkeys(range(1, 12), 0)
