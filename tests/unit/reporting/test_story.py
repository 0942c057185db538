import io

import pyarrow as pa
import pytest
from PIL import Image
from rich.console import Console

from masters.cli import main
from masters.data.image_shards import ImageShards
from masters.data.images import check_content
from masters.data.manifests import Manifest, write_manifest
from masters.data.metrics import METRICS, REWARDS_FOLDER
from masters.data.order import permutation_key
from masters.data.samples import find_sample
from masters.data.storage import Storage
from masters.data.tables import PREDICTIONS, RESPONSES, REWARDS, SAMPLES, VERDICTS
from masters.reporting.story import read_stories, tell

TEXTS = [r"The area is \[x=2\] so 4", r"see \[/INST] end", "[/b] :smile:"]
SAMPLE = {
    "sample_id": "a/[/b]1", "split": "train", "position": 0, "levels": ["big@r0.20"], "image_ids": [], "system": "",
    "history": [], "question": "[red]What?", "answers": ["4"],
}  # fmt: skip


def write(run, name, schema, rows):
    run.write_table(name, pa.Table.from_pylist(rows, schema))


def response(index, text, sample_id=SAMPLE["sample_id"]):
    return {"sample_id": sample_id, "author": "student", "index": index, "text": text, "finish_reason": "length"}


def write_samples(run, *samples):
    """As prepare leaves them: in the order of their ids in the permutation."""
    rows = sorted(samples, key=lambda sample: permutation_key(3, sample["sample_id"]))
    for split in {row["split"] for row in rows}:
        mine = [row | {"position": place} for place, row in enumerate(row for row in rows if row["split"] == split)]
        write(run, f"samples/{split}-000000.parquet", SAMPLES, mine)
    write_manifest(run, Manifest("prepare", "", {"seed": 3}, "done", {"train": len(rows)}))


@pytest.fixture
def run(tmp_path):
    run = Storage(str(tmp_path))
    run.write_json("run.json", {})
    write_samples(run, SAMPLE)
    write(run, "responses/student/00000000-00000001.parquet", RESPONSES, [response(i, t) for i, t in enumerate(TEXTS)])
    return run


def test_texts_are_shown_as_they_are(run):
    stream = io.StringIO()
    tell(run, SAMPLE["sample_id"], Console(file=stream, width=200, emoji=False))
    said = stream.getvalue()
    assert "a/[/b]1  train, position 0  big@r0.20" in said
    assert "question  [red]What?" in said
    for text in TEXTS:
        assert f"{text} [cut off]" in said


def test_what_is_left_of_samples_of_an_earlier_recipe_is_skipped(run):
    write(run, "responses/student/00000001-00000002.parquet", RESPONSES, [response(0, "old", "gone/1")])
    answer = {"sample_id": "gone/1", "text": "old", "correct": True}
    write(run, "evaluation/student/predictions.parquet", PREDICTIONS, [answer])
    (story,) = read_stories(run, [find_sample(run, SAMPLE["sample_id"])])
    assert (len(story.responses), story.predictions) == (3, {})
    with pytest.raises(ValueError, match="gone/1: no such sample in"):
        tell(run, "gone/1")


def test_a_folder_of_no_run_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none: is no run directory: run.json is not there\. `masters check RECIPE`"):
        tell(Storage(str(tmp_path / "none")), "x/1")


@pytest.fixture
def trained(run):
    """12 samples in shards of 3, judged and trained on in steps of 4, in two passes; one of test has the id of one of train."""
    samples = [{**SAMPLE, "sample_id": f"a/{i}"} for i in range(12)]
    write_samples(run, *samples, {**SAMPLE, "sample_id": "a/5", "split": "test"})
    write_manifest(run, Manifest("prepare", "", {"seed": 3}, "done", {"train": 12}))
    ids = run.read_table("samples/train-000000.parquet")["sample_id"].to_pylist()
    for author in ("student", "big@r0.20"):
        for start in range(0, 12, 3):
            keys = [{"sample_id": name, "author": author, "index": 0} for name in ids[start : start + 3]]
            file = f"{author}/{start:08d}-{start + 3:08d}.parquet"
            answers = [key | {"text": f"{author} to {key['sample_id']}", "finish_reason": "stop"} for key in keys]
            write(run, f"responses/{file}", RESPONSES, answers)
            write(run, f"verdicts/{file}", VERDICTS, [key | {"verdict": start % 2} for key in keys])
    run.write(METRICS, b"".join(b'{"step": %d, "groups": 4}\n' % step for step in range(6)))
    for step in range(6):
        keys = [{"sample_id": name, "author": "student", "index": 0} for name in ids[step % 3 * 4 :][:4]]
        rows = [key | {"step": step, "divergence": float(step)} for key in keys]
        write(run, f"{REWARDS_FOLDER}/{step + 1:08d}-0000.parquet", REWARDS, rows)
    run.delete("responses/student/00000000-00000001.parquet")
    return run, ids


def test_stories_are_whole_and_come_from_the_tables_that_hold_them(trained, monkeypatch):
    run, ids = trained
    opened, whole = [], Storage.find
    monkeypatch.setattr(Storage, "find", lambda self, names, *rest: opened.extend(names) or whole(self, names, *rest))
    for position, name in enumerate(ids):
        opened.clear()
        (story,) = read_stories(run, [find_sample(run, name)])
        assert [answer["text"] for answer in story.responses] == [
            f"{who} to {name}" for who in ("big@r0.20", "student")
        ]
        assert [answer["verdict"] for answer in story.responses] == [position // 3 % 2] * 2
        assert [answer.get("divergence") for answer in story.responses] == [None, 3.0 + position // 4]  # the last pass
        start, step = position // 3 * 3, position // 4
        shard = f"{start:08d}-{start + 3:08d}"
        shards = [f"{folder}/{who}/{shard}" for folder in ("verdicts", "responses") for who in ("big@r0.20", "student")]
        rewards = [f"{REWARDS_FOLDER}/{done:08d}-0000" for done in (step + 1, step + 4)]
        assert sorted(opened) == sorted(f"{file}.parquet" for file in (*shards, *rewards))


def test_stories_come_in_the_order_asked_for(trained):
    run, ids = trained
    picked = [ids[place] for place in (7, 0, 11)]
    stories = read_stories(run, [find_sample(run, name) for name in picked])
    assert [(story.sample["sample_id"], len(story.responses)) for story in stories] == [(name, 2) for name in picked]
    assert read_stories(run, []) == []


def test_a_held_out_sample_has_no_responses_of_its_namesake_in_train(trained):
    run, _ = trained
    (story,) = read_stories(run, [find_sample(run, "a/5", ["test"])])
    assert (story.sample["split"], story.responses) == ("test", [])


def photo(width: int, height: int, turned: bool = False) -> bytes:
    """A JPEG; one that is turned says so in its EXIF data."""
    exif, sink = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6 if turned else 1
    Image.new("RGB", (width, height), "red").save(sink, "JPEG", exif=exif)
    return sink.getvalue()


@pytest.fixture
def with_images(run):
    """Ids and contents of the images of sample `a/2`."""
    shards, contents = ImageShards(run, "a/00000-00000-00000"), [photo(40, 30), photo(40, 30, turned=True)]
    ids = [shards.add(check_content(content, 10_000)) for content in contents]
    shards.close()
    write_samples(run, SAMPLE, {**SAMPLE, "sample_id": "a/2", "image_ids": ids})
    return list(zip(ids, contents, strict=True))


def said_of(run, sample_id, folder=None):
    stream = io.StringIO()
    tell(run, sample_id, Console(file=stream, width=400, emoji=False, soft_wrap=True), folder)
    return stream.getvalue()


def test_images_are_named_with_the_sizes_that_models_see(run, with_images):
    (one, _), (turned, _) = with_images
    assert f"\nimage     {one}  40 x 30\nimage     {turned}  30 x 40\n" in said_of(run, "a/2")
    assert "image" not in said_of(run, SAMPLE["sample_id"])


def test_images_are_saved_where_they_are_wanted(run, with_images, tmp_path):
    folder = tmp_path / "a new" / "folder"
    said = said_of(run, "a/2", folder)
    for image_id, content in with_images:
        path = folder / image_id.rpartition("/")[2]
        assert path.read_bytes() == content
        assert path.suffix == ".jpg"
        assert f"saved as {path}\n" in said
    assert len(list(folder.iterdir())) == 2
    assert said_of(run, "a/2", folder) == said  # again
    assert "image     none: nothing was saved" in said_of(run, SAMPLE["sample_id"], tmp_path / "b")


def test_a_folder_that_cannot_be_written_is_named(run, with_images, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ValueError, match=r"^--save-images .*/file: cannot be written: File exists\. Name a folder of yours\."
    ):
        said_of(run, "a/2", tmp_path / "file")
    with pytest.raises(ValueError, match=r"^--save-images .*/file/x: cannot be written: Not a directory\."):
        said_of(run, "a/2", tmp_path / "file" / "x")


def test_images_that_are_gone_do_not_hide_the_rest_of_the_story(run, with_images, tmp_path):
    run.delete("images")
    write_samples(run, {**SAMPLE, "sample_id": "a/3", "image_ids": ["b/00000-00000-00000-0/x.png"]})
    said = said_of(run, "a/3", tmp_path / "saved")
    assert f"image     b/00000-00000-00000-0/x.png  is no longer in {run.uri}/images\n" in said
    assert "accepted  4" in said


def test_the_command_saves_images(run, with_images, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "saved"
    monkeypatch.setattr("sys.argv", ["masters", "show", run.uri, "--sample", "a/2", "--save-images", str(folder)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.count(f"  saved as {folder}/") == len(list(folder.iterdir())) == 2
