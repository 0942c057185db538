import io

import numpy as np
import pytest
from PIL import Image

from masters.data.images import upright_rgb

NOISE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def opened(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return Image.open(io.BytesIO(buffer.getvalue()))


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("RGB", "PNG"), ("RGB", "JPEG"), ("L", "PNG"), ("P", "GIF"), ("1", "PNG"), ("CMYK", "JPEG"), ("RGBA", "PNG")],
)
def test_plain_images_have_the_pixels_that_pil_gives(mode, kind):
    image = Image.fromarray(NOISE).convert(mode)
    assert upright_rgb(opened(image, kind)).tobytes() == opened(image, kind).convert("RGB").tobytes()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_photo_is_turned_as_its_exif_data_say(kind):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    image = upright_rgb(opened(Image.fromarray(NOISE), kind, exif=exif))
    assert image.size == (6, 9)
    expected = opened(Image.fromarray(NOISE), kind).transpose(Image.Transpose.ROTATE_270)
    assert image.tobytes() == expected.tobytes()


def test_what_is_transparent_is_white():
    half = Image.new("RGBA", (2, 1), (200, 0, 0, 0))
    half.putpixel((1, 0), (200, 0, 0, 255))
    image = upright_rgb(opened(half))
    assert [image.getpixel((x, 0)) for x in range(2)] == [(255, 255, 255), (200, 0, 0)]
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([10, 20, 30])
    assert upright_rgb(opened(palette, transparency=0)).getpixel((0, 0)) == (255, 255, 255)
    assert upright_rgb(opened(Image.new("RGB", (1, 1)), transparency=(0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(("type_", "kind"), [("u2", "PNG"), ("i4", "TIFF"), (">u2", "TIFF")])
def test_grey_of_16_bits_keeps_its_shades(type_, kind):
    shades = np.arange(0, 65_536, 257).reshape(16, 16)
    image = upright_rgb(opened(Image.fromarray(shades.astype(type_)), kind))
    assert (np.asarray(image) == (shades // 257)[..., None]).all()
