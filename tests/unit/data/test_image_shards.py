"""Images in shards: what is written, what is read for one of them, and what is left when others go."""

import hashlib
import io
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from masters.data import image_shards
from masters.data.image_shards import ImageShards, keep_only, read_image
from masters.data.images import CheckedImage
from masters.data.storage import Storage

CHUNK = "photos/00000-00000-00000"
GROUP, SHARD = 1 << 14, 1 << 18


def image(content: bytes) -> CheckedImage:
    return CheckedImage(f"{hashlib.sha256(content).hexdigest()}.png", content, 1, 1)


def drawn(count: int, seed: int = 0, smallest: int = 10, largest: int = 4000) -> list[CheckedImage]:
    """Images of random bytes, all different."""
    rng = random.Random(seed)
    return [image(number.to_bytes(4) + rng.randbytes(rng.randint(smallest, largest))) for number in range(count)]


def packed(run: Storage, images: list[CheckedImage], chunk: str = CHUNK) -> list[str]:
    shards = ImageShards(run, chunk)
    ids = [shards.add(one) for one in images]
    shards.close()
    return ids


def names_in(run: Storage, shard: str) -> list[str]:
    return run.read_table(f"images/{shard}.parquet", ["name"])["name"].to_pylist()


@pytest.fixture
def run(tmp_path):
    return Storage(str(tmp_path))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(image_shards, "_GROUP_BYTES", GROUP)
    monkeypatch.setattr(image_shards, "_SHARD_BYTES", SHARD)


@pytest.mark.parametrize("place", ["{}/run", "{}/a run, (1) é", "file://{}/run"])
def test_an_image_is_read_as_it_was_given_wherever_the_run_lies(tmp_path, place):
    run = Storage(place.format(tmp_path))
    images = drawn(20)
    ids = packed(run, images)
    assert ids == [f"{CHUNK}-0/{one.name}" for one in images]
    assert [read_image(run, image_id) for image_id in ids] == [one.content for one in images]
    assert run.names("images") == [f"images/{CHUNK}-0.parquet"]


def test_every_one_of_500_is_found_in_sorted_shards_of_a_bounded_size(run, small):
    images = drawn(500)
    ids = packed(run, images)
    assert [read_image(run, image_id) for image_id in ids] == [one.content for one in images]
    shards = sorted({image_id.rpartition("/")[0] for image_id in ids}, key=lambda name: int(name.rpartition("-")[2]))
    total = sum(len(one.content) for one in images)
    assert shards == [f"{CHUNK}-{number}" for number in range(len(shards))]
    assert total / SHARD <= len(shards) <= total / SHARD + 2
    for number, shard in enumerate(shards):
        file = run.open_parquet(f"images/{shard}.parquet")
        names, sizes = names_in(run, shard), [len(content) for content in file.read()["content"].to_pylist()]
        assert names == sorted(names)
        assert {f"{shard}/{name}" for name in names} == {one for one in ids if one.startswith(f"{shard}/")}
        assert sum(sizes) <= SHARD
        if number < len(shards) - 1:
            assert sum(sizes) > SHARD - 4004
        starts = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        groups = [sizes[sum(starts[:g]) : sum(starts[: g + 1])] for g in range(len(starts))]
        assert all(sum(group) <= GROUP for group in groups)
        assert all(sum(group) > GROUP - 4004 for group in groups[:-1])


def test_the_sizes_are_64_mib_and_about_1_mib():
    assert (image_shards._SHARD_BYTES, image_shards._GROUP_BYTES) == (64 * 2**20, 2**20)


def test_an_image_larger_than_a_group_and_one_larger_than_a_shard(run, small):
    sizes = (3 * SHARD, 10, 3 * GROUP, 10)
    images = [image(bytes([n]) * size) for n, size in enumerate(sizes)]
    ids = packed(run, images)
    assert [image_id.rpartition("/")[0][-1] for image_id in ids] == ["0", "1", "1", "1"]
    assert [read_image(run, image_id) for image_id in ids] == [one.content for one in images]


def test_equal_images_are_written_once_even_after_their_shard_is(run, small):
    images = drawn(100, largest=8000)
    again = packed(run, [*images, *images, images[3]])
    assert again[:100] == again[100:200]
    assert again[200] == again[3]
    shards = {image_id.rpartition("/")[0] for image_id in again}
    assert len(shards) > 1
    assert sorted(name for shard in shards for name in names_in(run, shard)) == sorted(one.name for one in images)


@pytest.mark.parametrize("wanted", [0, 250, 499])
def test_for_one_image_its_row_group_is_read_and_nothing_else_of_the_shard(run, small, monkeypatch, wanted):
    images = drawn(500, largest=400)  # one shard
    ids = packed(run, images)
    content = run.read(f"images/{CHUNK}-0.parquet")
    read = []

    class Counted(io.BytesIO):
        def read(self, size=-1):
            found = super().read(size)
            read.append(len(found))
            return found

    opened = pq.ParquetFile(pa.PythonFile(Counted(content), mode="r"))
    groups = []
    monkeypatch.setattr(Storage, "open_parquet", lambda *_: opened)
    monkeypatch.setattr(
        opened, "read_row_group", lambda group: groups.append(group) or pq.ParquetFile.read_row_group(opened, group)
    )
    read.clear()  # the footer
    assert read_image(run, ids[wanted]) == images[wanted].content
    assert len(groups) == 1
    assert opened.num_row_groups >= 5
    assert sum(read) < 1.5 * GROUP < len(content) / 3


def test_equal_images_give_equal_bytes_in_whichever_order_they_came(run):
    images = drawn(50)
    packed(run, images, "a/00000-00000-00000")
    packed(run, random.Random(1).sample(images, 50), "b/00000-00000-00000")
    one, other = (run.read(f"images/{name}/00000-00000-00000-0.parquet") for name in "ab")
    assert one == other


def test_what_is_not_there_is_named(run):
    (image_id,) = packed(run, drawn(1))
    for name in ("0" * 64, "f" * 64):
        with pytest.raises(KeyError, match=f"{CHUNK}-0/{name}.png: no such image in .*/images/{CHUNK}-0.parquet"):
            read_image(run, f"{CHUNK}-0/{name}.png")
    with pytest.raises(FileNotFoundError, match=f"images/{CHUNK}-1.parquet"):
        read_image(run, image_id.replace("-0/", "-1/"))


def test_no_image_writes_no_shard(run):
    assert packed(run, []) == []
    assert run.names("images") == []


@pytest.mark.parametrize("kept", [range(0, 50, 7), range(50), []])
def test_only_what_is_kept_is_left(run, kept):
    images = drawn(50)
    ids = packed(run, images)
    for image_id in ids:  # so that what was read before is remembered
        read_image(run, image_id)
    before = run.read(f"images/{CHUNK}-0.parquet")
    keep_only(run, f"{CHUNK}-0", {images[number].name[:32] for number in kept})
    assert run.exists(f"images/{CHUNK}-0.parquet") == bool(kept)
    if len(kept) == 50:
        assert run.read(f"images/{CHUNK}-0.parquet") == before
    elif kept:
        packed(run, [images[number] for number in kept], "other/00000-00000-00000")
        assert run.read(f"images/{CHUNK}-0.parquet") == run.read("images/other/00000-00000-00000-0.parquet")
    for number, image_id in enumerate(ids):
        if number in kept:
            assert read_image(run, image_id) == images[number].content
        else:
            with pytest.raises(KeyError if kept else FileNotFoundError):
                read_image(run, image_id)


def test_a_shard_that_an_earlier_attempt_emptied_is_left_alone(run):
    keep_only(run, f"{CHUNK}-0", {"0" * 32})
    assert run.names() == []
