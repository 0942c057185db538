"""The forms in which rows name images, and where their files are looked for."""

import base64
import contextlib
import io
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath

import pytest
from PIL import Image

from masters.config.prepare import ChartsSource, FilesSource
from masters.data import image_files
from masters.data.image_files import ImageReader
from masters.data.rejects import RejectError


def png(width=8):
    buffer = io.BytesIO()
    Image.new("RGB", (width, 8), "red").save(buffer, "PNG")
    return buffer.getvalue()


def as_format(kind):
    buffer = io.BytesIO()
    Image.effect_noise((16, 16), 50).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


def text(content, url_safe=False):
    return (base64.urlsafe_b64encode if url_safe else base64.b64encode)(content).decode()


def reader(**fields):
    return ImageReader(FilesSource(**{"type": "files", "name": "s", "path": "d.json", **fields}), 1_000)


def rejected(reader, image, folder=""):
    with pytest.raises(RejectError) as caught:
        reader.check(image, folder)
    assert len(caught.value.detail) < 500
    return caught.value.reason, caught.value.detail


CONTENT = png()
WRAPPED = "\n".join(text(CONTENT)[i : i + 76] for i in range(0, len(text(CONTENT)), 76))


@pytest.mark.parametrize(
    "image",
    [
        CONTENT,
        bytearray(CONTENT),
        memoryview(CONTENT),
        {"bytes": CONTENT},
        {"bytes": CONTENT, "path": "not/there.png"},
        {"bytes": None, "path": "a.png"},
        {"bytes": b"", "path": "a.png"},
        {"path": "a.png"},
        {"path": None, "url": "a.png"},
        {"url": f"data:image/png;base64,{text(CONTENT)}"},
        {"bytes": text(CONTENT)},
        "a.png",
        Path("a.png"),
        PurePosixPath("a.png"),
        "{folder}/a.png",
        "file://{folder}/a.png",
        "file://localhost{folder}/a.png",
        "FILE://{folder}/%61.png",
        "file://a.png",
        text(CONTENT),
        text(CONTENT).rstrip("="),
        text(CONTENT, url_safe=True),
        f"  {WRAPPED}\n",
        f"data:image/png;base64,{text(CONTENT)}",
        f"data:;base64,{text(CONTENT).replace('=', '%3D').replace('+', '%2B')}",
        f"DATA:image/png;name=a;base64,{text(CONTENT)}",
        "data:image/png," + "".join(f"%{byte:02x}" for byte in CONTENT),
    ],
)
def test_forms_of_one_image(image, tmp_path):
    (tmp_path / "a.png").write_bytes(CONTENT)
    if isinstance(image, str) and "{folder}" in image:
        image = image.format(folder=tmp_path)
    checked = reader().check(image, str(tmp_path))
    assert (checked.content, checked.width, checked.height) == (CONTENT, 8, 8)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
def test_base64_of_every_usual_format_is_told_from_a_path(kind):
    content = as_format(kind)
    assert reader().check(text(content), "/nowhere").content == content


def test_decoded_images_of_a_reader_of_ones_own():
    checked = reader().check(Image.new("RGB", (8, 8), "red"), "")
    assert Image.open(io.BytesIO(checked.content)).tobytes() == Image.open(io.BytesIO(CONTENT)).tobytes()


@pytest.mark.parametrize(
    ("image", "reason", "detail"),
    [
        (None, "image is neither bytes nor a path", "None"),
        ({}, "image is neither bytes nor a path", "{}"),
        ({"bytes": [1, 2]}, "image is neither bytes nor a path", "[1, 2]"),
        ({"image": "a.png"}, "image is neither bytes nor a path", "a.png"),
        (b"", "image is empty", ""),
        ({"bytes": b"", "path": ""}, "image is empty", ""),
        (" ", "image is empty", ""),
        ("data:image/png;base64", "image is corrupt", "a data URI without content"),
        ("data:image/png;base64,", "image is empty", "base64"),
        (f"data:image/png;base64,{text(CONTENT)[:64]}", "image is corrupt", "base64 of 48 bytes"),
        (f"{text(CONTENT)[:81]}", "image is corrupt", "base64"),
        ("QUJD" * 2_000, "image is of no known format", "base64 of 6000 bytes"),
        ("words and more words " * 1_000, "image file cannot be read", "words"),
        ("not/there.png", "image file cannot be read", "not/there.png': No such file or directory"),
        (".", "image file cannot be read", "is a folder or no plain file"),
        ("pipe", "image file cannot be read", "is a folder or no plain file"),
        ("text.png", "image is of no known format", "text.png"),
        ("a.png/b.png", "image file cannot be read", "b.png': No such file"),
        ("large.png", "image is too large", "large.png"),
        ("https://u:secret@host.example/a.png?sig=secret", "image is an address", "https://host.example/a.png': fetch"),
        ({"path": None, "url": "HTTP://x/a.png"}, "image is an address", "fetch_images: true"),
        ("hf://datasets/a.png", "image is an address", "only file, s3, gs and paths are read"),
        ("s3://user:secret@bucket/a.png", "image file cannot be read", "holds a user"),
    ],
)
def test_forms_that_are_refused(image, reason, detail, tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "_LARGEST_FILE", 200)
    (tmp_path / "a.png").write_bytes(CONTENT)
    (tmp_path / "text.png").write_text("text")
    (tmp_path / "large.png").write_bytes(bytes(201))
    os.mkfifo(tmp_path / "pipe")
    found = rejected(reader(), image, str(tmp_path))
    assert found[0] == reason
    assert detail in found[1]
    assert "secret" not in found[1]


@pytest.mark.parametrize(
    ("written", "root", "lies"),
    [
        ("a.png", "images", "images/a.png"),
        ("x\\y\\a.png", "images", "images/x/y/a.png"),
        (".\\a.png", "images", "images/a.png"),
        ("./a.png", "images", "images/a.png"),
        (" a.png\n", "images", "images/a.png"),
        (" {folder}/a.png", "", "a.png"),
        ("~/a.png", "images", "home/a.png"),
        ("~/a.png", "", "home/a.png"),
        ("a.JPG", "images", "images/a.jpg"),
        ("a.jpg", "images", "images/a.JPG"),
        ("{folder}/a.JPG", "", "a.jpg"),
        ("images/a.png", "images", "images/a.png"),
        ("data/images/a.png", "data/images/", "data/images/a.png"),
        ("images\\a.PNG ", "data/images", "data/images/a.png"),
        ("~a.png", "images", "images/~a.png"),
        ("x.y/a", "images", "images/x.y/a"),
    ],
)
def test_slips_in_paths_are_mended(written, root, lies, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / lies).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / lies).write_bytes(CONTENT)
    of_files = reader(image_root=str(tmp_path / root) if root else "")
    assert of_files.check(written.format(folder=tmp_path), "").content == CONTENT
    assert (of_files.found, of_files.missing, of_files.first_missing) == (1, 0, "")


@pytest.mark.parametrize("written", ["x\\a.png", " a.png", "a.PNG", "images/a.png", "~/a.png"])
def test_a_file_of_the_name_as_written_comes_before_a_mended_one(written, tmp_path, monkeypatch):
    root = tmp_path / "images"
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, content in ((written, png(5)), ("x/a.png", png(6)), ("a.png", png(7)), ("../a.png", png(9))):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if not (root / name).exists():
            (root / name).write_bytes(content)
    assert reader(image_root=str(root)).check(written, "").width == 5


def test_relative_paths_never_start_at_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("a.png", "root/a.png", "folder/a.png"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(png(5 + len(place)))
    both = reader(image_root=str(tmp_path / "root"))
    assert both.check("a.png", str(tmp_path / "folder")).width == 15
    assert reader().check("a.png", str(tmp_path / "folder")).width == 17
    assert rejected(reader(), "a.png") == ("image path is relative to no folder", "'a.png': set image_root")
    assert rejected(both, "b.png", str(tmp_path))[0] == "image file cannot be read"
    (tmp_path / "b.png").write_bytes(CONTENT)
    assert rejected(reader(image_root=str(tmp_path / "root")), "b.png", str(tmp_path))[0] == "image file cannot be read"


def test_what_was_not_found_is_said_in_words(tmp_path):
    (tmp_path / "a.png").write_bytes(CONTENT)
    of_files = reader(image_root=str(tmp_path / "images"))
    for name in ("x.png", "y.png", "x.png"):
        rejected(of_files, name)
    first = f" below {tmp_path}/images: first tried {tmp_path}/images/x.png"
    assert (of_files.found, of_files.missing, of_files.first_missing) == (0, 2, first)
    of_files.check(f"{tmp_path}/a.png", "")
    assert (of_files.found, of_files.missing, of_files.first_missing) == (1, 2, first)
    lost = reader()
    rejected(lost, "/nowhere/a.png")
    assert lost.first_missing == ": first tried /nowhere/a.png"


@pytest.fixture
def stores(tmp_path, monkeypatch):
    """Buckets are folders. Names of what was read are listed."""
    asked = []

    class Store:
        def __init__(self, uri):
            self.uri = uri

        def read(self, name):
            asked.append(f"{self.uri}/{name}")
            if "away" in self.uri:
                raise OSError("AWS Error NETWORK_CONNECTION during GetObject operation: curlCode: 7")
            if "closed" in self.uri:
                raise OSError("AWS Error ACCESS_DENIED during GetObject operation")
            return (tmp_path / self.uri.replace("://", "/") / name).read_bytes()

    monkeypatch.setattr(image_files, "Storage", Store)
    for bucket in ("s3/b/x", "gs/b/x"):
        (tmp_path / bucket).mkdir(parents=True)
        (tmp_path / bucket / "a.png").write_bytes(CONTENT)
    return asked


@pytest.mark.parametrize(
    ("image", "root", "folder", "asked"),
    [
        ("s3://b/x/a.png", "", "", "s3://b/x/a.png"),
        (" s3://b/x/a.png ", "", "", "s3://b/x/a.png"),
        ("gs://b/x/a.png", "s3://c", "", "gs://b/x/a.png"),
        ("a.png", "s3://b/x", "/nowhere", "s3://b/x/a.png"),
        ("a.png", "", "gs://b/x/", "gs://b/x/a.png"),
        (".\\a.png", "s3://b/x", "", "s3://b/x/a.png"),
        ("x/a.PNG", "s3://b/x", "", "s3://b/x/a.png"),
    ],
)
def test_images_in_object_stores(image, root, folder, asked, stores):
    assert reader(image_root=root).check(image, folder).content == CONTENT
    assert stores[-1] == asked


def test_an_object_store_that_does_not_answer_is_no_fault_of_the_row(stores):
    with pytest.raises(OSError, match="NETWORK_CONNECTION"):
        reader().check("s3://away/a.png", "")
    assert rejected(reader(), "s3://closed/a.png") == (
        "image file cannot be read", "'s3://closed/a.png': AWS Error ACCESS_DENIED during GetObject operation"
    )  # fmt: skip
    assert rejected(reader(), "s3://b/x/b.png")[1] == "'s3://b/x/b.png': No such file or directory"


@pytest.fixture
def server(monkeypatch):
    """A web server of this machine; lists the paths that were asked for."""
    monkeypatch.setenv("no_proxy", "*")
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            path = self.path.partition("?")[0]
            if path == "/gone.png":
                self.send_error(404)
                return
            if path == "/moved.png":
                self.send_response(302)
                self.send_header("Location", "/a.png")
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            if path == "/hang.png":
                released.wait(20)
            for _ in range(60 if path == "/drips.png" else 0):
                released.wait(0.05)
                self.wfile.write(b"x")
                self.wfile.flush()
            self.wfile.write({"/page": b"<html>", "/large.png": bytes(2_000)}.get(path, CONTENT))

        def handle(self):
            with contextlib.suppress(ConnectionError):  # who asked has left
                super().handle()

        def log_message(self, *_):
            pass

    released = threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        released.set()
        running.shutdown()


def test_addresses_are_fetched_by_choice_and_once(server):
    address, asked = server
    of_web = reader(fetch_images=True)
    for path in ("/a.png", "/a.png", "/moved.png", "/ä b.png", "/a%20b.png?sig=1"):
        assert of_web.check({"url": f"{address}{path}"}, "").content == CONTENT
    assert asked == ["/a.png", "/moved.png", "/a.png", "/%C3%A4%20b.png", "/a%20b.png?sig=1"]
    rejected(reader(), f"{address}/a.png")
    assert len(asked) == 5


@pytest.mark.parametrize(
    ("path", "reason", "detail"),
    [
        ("/gone.png?sig=secret", "image cannot be fetched", "/gone.png': HTTP Error 404"),
        ("/hang.png", "image cannot be fetched", "timed out"),
        ("/drips.png", "image cannot be fetched", "not here after 0.3 s"),
        ("/large.png", "image is too large", "more than 1000 bytes"),
        ("/page", "image is of no known format", "/page"),
        (":bad/a.png", "image cannot be fetched", ""),
    ],
)
def test_what_cannot_be_fetched_is_asked_for_once(path, reason, detail, server, monkeypatch):
    monkeypatch.setattr(image_files, "_FETCH_SECONDS", 0.3)
    monkeypatch.setattr(image_files, "_LARGEST_FILE", 1_000)
    address, asked = server
    of_web = reader(fetch_images=True)
    first, second = (rejected(of_web, f"{address}{path}") for _ in range(2))
    assert first == second
    assert first[0] == reason
    assert detail in first[1]
    assert "secret" not in first[1]
    assert len(asked) <= 1


def test_a_server_that_closes_its_door():
    assert rejected(reader(fetch_images=True), "http://127.0.0.1:9/a.png")[0] == "image cannot be fetched"


@pytest.fixture
def decoded(monkeypatch):
    """Counts what is decoded."""
    counted = []
    real = image_files.check_content
    monkeypatch.setattr(
        image_files, "check_content", lambda content, *told: counted.append(content) or real(content, *told)
    )
    return counted


def test_an_image_that_comes_again_is_neither_read_nor_decoded(tmp_path, decoded):
    (tmp_path / "a.png").write_bytes(CONTENT)
    (tmp_path / "b.png").write_bytes(CONTENT)
    (tmp_path / "bad.png").write_bytes(CONTENT[:48])
    of_files, folder = reader(), str(tmp_path)
    first = of_files.check("a.png", folder)
    for image in ("a.png", "b.png", CONTENT, {"bytes": CONTENT}, text(CONTENT)):
        assert of_files.check(image, folder) == first
    assert decoded == [CONTENT]
    reasons = [rejected(of_files, image, folder) for image in ("bad.png", "bad.png", CONTENT[:48])]
    assert [reason for reason, _ in reasons] == ["image is corrupt"] * 3
    assert [detail.partition(":")[0] for _, detail in reasons] == ["'bad.png'", "'bad.png'", "48 bytes"]
    assert decoded == [CONTENT, CONTENT[:48]]
    (tmp_path / "a.png").unlink()
    assert of_files.check("a.png", folder) == first
    rejected(of_files, "late.png", folder)
    (tmp_path / "late.png").write_bytes(CONTENT)
    rejected(of_files, "late.png", folder)
    assert of_files.check("late.png", f"{folder}/.") == first


def test_what_is_remembered_has_a_limit(tmp_path, decoded, monkeypatch):
    monkeypatch.setattr(image_files, "_REMEMBERED_BYTES", 3 * 1_024 + 100)
    of_files = reader()
    small, other, third = png(8), png(9), png(10)
    for content in (small, other, small, third, small):
        of_files.check(content, "")
    assert decoded == [small, other, third]
    for content in (png(11), png(12), small, other):
        of_files.check(content, "")
    assert decoded[3:] == [png(11), png(12), other]
    (tmp_path / "large.png").write_bytes(large := as_format("PNG") + bytes(4_000))
    for image in ("large.png", "large.png", small, small):
        of_files.check(image, str(tmp_path))
    assert decoded[6:] == [large, large, small]


def test_sources_without_rows_of_files_have_no_folder():
    assert (
        rejected(ImageReader(ChartsSource(type="charts"), 1_000), "a.png")[0] == "image path is relative to no folder"
    )
