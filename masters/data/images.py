"""The pixels of an image as models see them: the same for the check in prepare and for every later stage."""

import hashlib
import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

from masters.data.image_hashes import Hashing, ImageHashes, hash_image
from masters.data.rejects import RejectError

# PIL's own limit of 1 MiB calls a PNG with a large colour profile or an editor's notes corrupt. A text that unpacks to
# more than this is still an error, as are many texts together.
PngImagePlugin.MAX_TEXT_CHUNK = 16 << 20
PngImagePlugin.MAX_TEXT_MEMORY = 64 << 20

_MAX_ASPECT_RATIO = 200
_SAMPLE_FORMAT, _UNSIGNED = 339, 1  # a TIFF tag, and what it is where it is left out
_SUFFIXES = {"PNG": "png", "JPEG": "jpg", "MPO": "jpg", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif"}
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class CheckedImage:
    """An image that was decoded once, whole.

    Attributes:
        name: "<sha256 of the content, hex>.<suffix of its format>".
        content: the encoded image as it was given; images that came decoded are PNG.
        width, height: pixels, upright (turned as the EXIF data say): as models see it.
        hashes: where they were asked for.
    """

    name: str
    content: bytes
    width: int
    height: int
    hashes: ImageHashes | None = None


def upright_rgb(opened: Image.Image) -> Image.Image:
    """RGB as a viewer shows it: turned as its EXIF data say, on white where it is transparent, grey in 8 bits.

    Grey of 16 or 32 bits is scaled by the bits in use: the bit length of the largest value, rounded up to an even number,
    8 at the least. So 12-bit scans stored in 16 bits are not nearly black, and 8-bit ones stay as they are; an image without
    a bright pixel gets brighter. Negative values are black.
    """
    image = ImageOps.exif_transpose(opened)
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = _grey_of_8_bits(image, opened)
    if image.has_transparency_data:
        # PIL's own conversion shows the colour below, which nobody was meant to see: black, as a rule.
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _grey_of_8_bits(image: Image.Image, opened: Image.Image) -> Image.Image:
    """PIL's own conversion does not scale: it makes everything above 255 white."""
    pixels = np.asarray(image)
    tags = getattr(opened, "tag_v2", None)
    if image.mode == "I" and tags is not None and tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0] == _UNSIGNED:
        pixels = pixels.view(np.uint32)  # PIL reads them as signed
    pixels = np.maximum(pixels, 0)
    length = int(pixels.max()).bit_length()
    return Image.fromarray((pixels >> max(0, length + length % 2 - 8)).astype(np.uint8))


def check_content(content: bytes, max_pixels: int, hashing: Hashing = "off") -> CheckedImage:
    """Decode an encoded image; hash it, too, where `hashing` says so.

    Raises:
        RejectError: where it cannot be decoded, or models could not be shown it. The detail does not say which image.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content)) as opened:
                _check_shape(opened, max_pixels)
                kind, upright = opened.format, upright_rgb(opened)
                hashes = hash_image(upright, hashing)
    except RejectError:
        raise
    except Image.UnidentifiedImageError as error:
        pointer = content.startswith(_LFS_POINTER)
        detail = "a Git LFS pointer: `git lfs pull` fetches the image" if pointer else f"{len(content)} bytes"
        raise RejectError("image is of no known format", detail) from error
    except Image.DecompressionBombError as error:
        raise RejectError("image is too large", str(error)) from error
    except Exception as error:  # PIL's decoders meet corrupt data with errors of any kind
        raise RejectError("image is corrupt", str(error)) from error
    return CheckedImage(
        f"{hashlib.sha256(content).hexdigest()}.{_SUFFIXES.get(kind or '', 'img')}", content, *upright.size, hashes
    )


def check_decoded(image: Image.Image, max_pixels: int, hashing: Hashing = "off") -> CheckedImage:
    """Encode a PIL image as PNG, with the pixels that models see. Raises RejectError as `check_content` does."""
    _check_shape(image, max_pixels)
    buffer = io.BytesIO()
    try:
        upright = upright_rgb(image)
        upright.save(buffer, "PNG")
        hashes = hash_image(upright, hashing)
    except Exception as error:  # PIL opens files without reading them, so corrupt ones show here
        raise RejectError("image is corrupt", str(error)) from error
    return CheckedImage(
        f"{hashlib.sha256(buffer.getvalue()).hexdigest()}.png", buffer.getvalue(), *upright.size, hashes
    )


def _check_shape(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if not width or not height:
        raise RejectError("image is empty", f"{width} x {height}")
    if width * height > max_pixels:
        raise RejectError("image is too large", f"{width} x {height}, prepare.max_image_pixels is {max_pixels}")
    if max(width, height) > _MAX_ASPECT_RATIO * min(width, height):
        raise RejectError("image is too long and narrow", f"{width} x {height}")
    if image.mode == "F":
        raise RejectError("image has floating-point pixels", "nothing says which value is white")
