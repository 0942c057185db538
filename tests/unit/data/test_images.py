"""Kinds of images that data sets hold, made by PIL: what prepare accepts, and the pixels that models then see."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from masters.data.images import check_content, check_decoded, upright_rgb
from masters.data.rejects import RejectError

RED, BLUE, WHITE = (200, 40, 40), (40, 40, 200), (255, 255, 255)
PICTURE = Image.new("RGB", (16, 8), RED)
PICTURE.paste(BLUE, (8, 0, 16, 8))
GREY = tuple(PICTURE.convert("L").getpixel(place) for place in ((0, 0), (15, 0)))
DARK_RED, DARK_BLUE = ((grey,) * 3 for grey in GREY)
SHADES = np.arange(0, 65_536, 257).reshape(16, 16)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def of_mode(mode, kind="PNG", **options):
    return encoded(PICTURE.convert(mode), kind, **options)


def turned(orientation, kind="JPEG"):
    """As a camera stores it: pixels that lie as `orientation` says, a viewer shows PICTURE."""
    stored = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(PICTURE if stored is None else PICTURE.transpose(stored), kind, exif=exif)


def half_transparent():
    image = PICTURE.convert("RGBA")
    image.paste((*BLUE, 0), (8, 0, 16, 8))
    return image


def grey(dtype, scale=257, **options):
    """Grey as deep as `scale` makes it, in PNG or TIFF."""
    return encoded(Image.fromarray((np.asarray(PICTURE.convert("L")).astype(dtype) * scale).astype(dtype)), **options)


def png_with(kind, content):
    """A PNG with one more chunk in front of the pixels."""
    chunk = kind + content
    plain = encoded(PICTURE)
    return plain[:33] + struct.pack(">I", len(content)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + plain[33:]


def text_chunk(size):
    return png_with(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(range(48, 58)) * (size // 10)))


def unsigned_tiff():
    """32 bits without a sign: the values at the left are above those of a signed integer."""
    pixels = np.asarray(PICTURE.convert("L")).astype(np.uint32) << 25
    content = encoded(Image.fromarray(pixels.view(np.int32)), "TIFF")
    tag = struct.pack("<HHI", 339, 3, 1)
    assert content.count(tag + struct.pack("<H", 2)) == 1
    return content.replace(tag + struct.pack("<H", 2), tag + struct.pack("<H", 1))


FRAMES = {"save_all": True, "append_images": [Image.new("RGB", (16, 8), "white")]}
KINDS = {
    "PNG": (of_mode("RGB"), RED, BLUE),
    "PNG, grey": (of_mode("L"), DARK_RED, DARK_BLUE),
    "PNG, black and white": (of_mode("1"), None, None),
    "PNG, palette": (encoded(PICTURE.quantize(4)), RED, BLUE),
    "PNG, opaque": (of_mode("RGBA"), RED, BLUE),
    "PNG, half transparent": (encoded(half_transparent()), RED, WHITE),
    "PNG, grey, half transparent": (encoded(half_transparent().convert("LA")), DARK_RED, WHITE),
    "PNG, one colour is transparent": (encoded(PICTURE, transparency=BLUE), RED, WHITE),
    "PNG, 16-bit grey": (grey(np.uint16), DARK_RED, DARK_BLUE),
    "PNG, 12 bits in 16": (grey(np.uint16, 16), DARK_RED, DARK_BLUE),
    "PNG, 8 bits in 16": (grey(np.uint16, 1), DARK_RED, DARK_BLUE),
    "PNG, best packed": (of_mode("RGB", optimize=True), RED, BLUE),
    "PNG, animated": (encoded(PICTURE, **FRAMES), RED, BLUE),
    "PNG, 2 MiB of text": (text_chunk(2 << 20), RED, BLUE),
    "PNG, 2 MiB of colour profile": (png_with(b"iCCP", b"sRGB\0\0" + zlib.compress(bytes(2 << 20))), RED, BLUE),
    "JPEG": (of_mode("RGB", "JPEG", quality=95), RED, BLUE),
    "JPEG, grey": (of_mode("L", "JPEG"), DARK_RED, DARK_BLUE),
    "JPEG, CMYK": (of_mode("CMYK", "JPEG", quality=95), RED, BLUE),
    "JPEG, progressive": (of_mode("RGB", "JPEG", progressive=True, quality=95), RED, BLUE),
    "JPEG, bytes behind its end": (of_mode("RGB", "JPEG", quality=95) + b"\0" * 100, RED, BLUE),
    **{f"JPEG, turned, {place}": (turned(place), RED, BLUE) for place in range(1, 9)},
    "PNG, turned": (turned(6, "PNG"), RED, BLUE),
    "WEBP, turned": (turned(8, "WEBP"), RED, BLUE),
    "MPO of a phone": (encoded(PICTURE, "MPO", quality=95, **FRAMES), RED, BLUE),
    "GIF": (encoded(PICTURE.quantize(4), "GIF"), RED, BLUE),
    "GIF, animated": (encoded(PICTURE, "GIF", **FRAMES), RED, BLUE),
    "GIF, half transparent": (encoded(half_transparent(), "GIF"), RED, WHITE),
    "WEBP": (of_mode("RGB", "WEBP", quality=95), RED, BLUE),
    "WEBP, lossless, half transparent": (encoded(half_transparent(), "WEBP", lossless=True), RED, WHITE),
    "WEBP, animated": (encoded(PICTURE, "WEBP", lossless=True, **FRAMES), RED, BLUE),
    "BMP": (of_mode("RGB", "BMP"), RED, BLUE),
    "BMP, grey": (of_mode("L", "BMP"), DARK_RED, DARK_BLUE),
    "BMP, palette": (encoded(PICTURE.quantize(4), "BMP"), RED, BLUE),
    "TIFF": (of_mode("RGB", "TIFF"), RED, BLUE),
    "TIFF, LZW": (of_mode("RGB", "TIFF", compression="tiff_lzw"), RED, BLUE),
    "TIFF, CMYK": (of_mode("CMYK", "TIFF"), RED, BLUE),
    "TIFF, fax": (of_mode("1", "TIFF", compression="group4"), None, None),
    "TIFF, 16-bit grey": (grey(np.uint16, kind="TIFF"), DARK_RED, DARK_BLUE),
    "TIFF, 16-bit grey, big-endian": (grey(">u2", kind="TIFF"), DARK_RED, DARK_BLUE),
    "TIFF, 16 bits in 32": (grey(np.int32, kind="TIFF"), DARK_RED, DARK_BLUE),
    "TIFF, 32-bit grey": (grey(np.int32, 1 << 24, kind="TIFF"), DARK_RED, DARK_BLUE),
    "TIFF, 32-bit grey, no sign": (unsigned_tiff(), *((2 * grey,) * 3 for grey in GREY)),
    "PPM": (of_mode("RGB", "PPM"), RED, BLUE),
    "ICO": (encoded(PICTURE.resize((16, 16)), "ICO"), RED, BLUE),
    "TGA": (of_mode("RGB", "TGA"), RED, BLUE),
}  # fmt: skip

REFUSED = {
    "nothing": (b"", "image is of no known format"),
    "text": (b"this is text", "image is of no known format"),
    "HTML": (b"<!DOCTYPE html><html>404</html>", "image is of no known format"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg' width='8' height='8'/>", "image is of no known format"),
    "Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "image is of no known format"),
    "PNG, cut": (encoded(PICTURE)[:60], "image is corrupt"),
    "JPEG, 2 bytes short": (encoded(PICTURE.resize((64, 64)), "JPEG")[:-2], "image is corrupt"),
    "GIF, header only": (encoded(PICTURE, "GIF")[:13], "image is of no known format"),
    "PNG, 100 MiB of text in 100 kB": (text_chunk(100 << 20), "image is corrupt"),
    "too many pixels": (encoded(Image.new("L", (1_001, 1_000))), "image is too large"),
    "bomb": (
        encoded(PICTURE)[:12] + (ihdr := b"IHDR" + struct.pack(">II", 60_000, 60_000) + encoded(PICTURE)[24:29])
        + struct.pack(">I", zlib.crc32(ihdr)) + encoded(PICTURE)[33:], "image is too large",
    ),
    "TIFF, floats": (encoded(PICTURE.convert("F"), "TIFF"), "image has floating-point pixels"),
    "a line": (encoded(Image.new("L", (401, 2))), "image is too long and narrow"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_images_that_are_read(kind):
    content, left, right = KINDS[kind]
    checked = check_content(content, 1_000_000)
    assert checked.content == content
    image = upright_rgb(Image.open(io.BytesIO(content)))
    assert (image.mode, image.size) == ("RGB", (checked.width, checked.height))
    assert image.size == ((16, 16) if kind == "ICO" else (16, 8))
    for (x, y), colour in (((1, 1), left), ((1, 6), left), ((14, 1), right), ((14, 6), right)):
        if colour is not None:
            assert np.abs(np.subtract(image.getpixel((x, y)), colour)).max() <= 25


@pytest.mark.parametrize("kind", REFUSED)
def test_kinds_of_images_that_are_refused(kind):
    content, reason = REFUSED[kind]
    with pytest.raises(RejectError) as caught:
        check_content(content, 1_000_000)
    assert caught.value.reason == reason
    assert ("git lfs pull" in caught.value.detail) == (kind == "Git LFS pointer")


def test_an_image_is_called_by_its_content_and_kind():
    names = {kind: check_content(KINDS[kind][0], 1_000).name for kind in ("PNG", "MPO of a phone", "TGA")}
    assert {kind: name.partition(".")[2] for kind, name in names.items()} == {"PNG": "png", "MPO of a phone": "jpg", "TGA": "img"}  # fmt: skip
    assert len({name.partition(".")[0] for name in names.values()}) == 3
    assert all(len(name.partition(".")[0]) == 64 for name in names.values())


@pytest.mark.parametrize(("type_", "kind"), [("u2", "PNG"), ("i4", "TIFF"), (">u2", "TIFF")])
def test_grey_of_16_bits_keeps_its_shades(type_, kind):
    image = upright_rgb(Image.open(io.BytesIO(encoded(Image.fromarray(SHADES.astype(type_)), kind))))
    assert (np.asarray(image) == (SHADES // 257)[..., None]).all()


@pytest.mark.parametrize(
    ("brightest", "white"),
    [
        (0, 0),
        (200, 200),
        (255, 255),
        (256, 64),
        (1023, 255),
        (4095, 255),
        (16_383, 255),
        (32_768, 128),
        (2**31 - 1, 127),
    ],
)
def test_the_bits_in_use_say_what_is_white(brightest, white):
    pixels = np.array([[-5, 0, brightest]], np.int32)
    image = upright_rgb(Image.open(io.BytesIO(encoded(Image.fromarray(pixels), "TIFF"))))
    assert [image.getpixel((x, 0))[0] for x in range(3)] == [0, 0, white]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "I;16"])
def test_decoded_images_become_png_with_the_same_pixels(mode):
    image = Image.fromarray(SHADES.astype(np.uint16)) if mode.startswith("I") else PICTURE.convert("RGB")
    image = image.convert("I") if mode == "I" else image if mode == "I;16" else image.convert(mode)
    checked = check_decoded(image, 1_000)
    assert checked == check_content(checked.content, 1_000)
    assert checked.name.endswith(".png")
    with Image.open(io.BytesIO(checked.content)) as again:
        assert again.tobytes() == upright_rgb(image).tobytes()


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (Image.new("RGB", (0, 5)), "image is empty"),
        (Image.new("F", (5, 5)), "image has floating-point pixels"),
        (Image.new("L", (50, 50)), "image is too large"),
        (Image.new("L", (1, 201)), "image is too long and narrow"),
        (Image.open(io.BytesIO(encoded(PICTURE)[:60])), "image is corrupt"),
    ],
)
def test_decoded_images_that_are_refused(image, reason):
    with pytest.raises(RejectError) as caught:
        check_decoded(image, 1_000)
    assert caught.value.reason == reason


def test_a_decoded_photo_is_turned():
    checked = check_decoded(Image.open(io.BytesIO(turned(6))), 1_000)
    assert (checked.width, checked.height) == PICTURE.size


def test_the_limits_on_text_in_png_are_raised_for_every_stage():
    assert 4 << 20 < PngImagePlugin.MAX_TEXT_CHUNK <= PngImagePlugin.MAX_TEXT_MEMORY < 100 << 20
