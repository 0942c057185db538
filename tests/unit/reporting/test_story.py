import io

import pyarrow as pa
import pytest
from PIL import Image
from rich.console import Console

from masters.cli import main
from masters.data.image_shards import ImageShards
from masters.data.images import check_content
from masters.data.storage import Storage
from masters.data.tables import PREDICTIONS, RESPONSES, SAMPLES
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


@pytest.fixture
def run(tmp_path):
    run = Storage(str(tmp_path))
    run.write_json("run.json", {})
    write(run, "samples/0.parquet", SAMPLES, [SAMPLE])
    write(run, "responses/student/0.parquet", RESPONSES, [response(i, text) for i, text in enumerate(TEXTS)])
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
    write(run, "responses/student/1.parquet", RESPONSES, [response(0, "old", "gone/1")])
    answer = {"sample_id": "gone/1", "text": "old", "correct": True}
    write(run, "evaluation/student/predictions.parquet", PREDICTIONS, [answer])
    assert [len(story.responses) for story in read_stories(run, ["gone/1", SAMPLE["sample_id"]])] == [3]
    with pytest.raises(ValueError, match="gone/1: no such sample in"):
        tell(run, "gone/1")


def test_a_folder_of_no_run_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none: is no run directory: run.json is not there\. `masters check RECIPE`"):
        tell(Storage(str(tmp_path / "none")), "x/1")


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
    write(run, "samples/1.parquet", SAMPLES, [{**SAMPLE, "sample_id": "a/2", "image_ids": ids}])
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
    write(
        run,
        "samples/2.parquet",
        SAMPLES,
        [{**SAMPLE, "sample_id": "a/3", "image_ids": ["b/00000-00000-00000-0/x.png"]}],
    )
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
