"""Hashes of an image as models see it: one of its exact pixels, and what it looks like in 16 bytes and as a thumbnail.

The perceptual hash finds what may be the same picture; whether it is, only the thumbnails tell (masters.data.look_alikes).
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from PIL import Image, ImageFilter

Hashing = Literal["off", "exact", "perceptual"]
"""What is computed: nothing, of the pixels alone, or all."""

SIDE, COLOUR_SIDE = 48, 16
THUMBNAIL_BYTES = SIDE * SIDE + 2 * COLOUR_SIDE * COLOUR_SIDE
_HASH_SIDE = 11  # 121 of 128 bits
_SMALLEST = 16
"""Pixels of a side: less is an icon of a few dots, of which many are equal by chance."""
_PLAIN = 3.0
"""Standard deviation of the grey of a thumbnail, of 255: less is an empty page, and the hash of it is noise."""

HASHES = pa.struct(
    [
        ("pixels", pa.binary(16)),
        ("perceptual", pa.binary(16)),  # null where there is nothing to see
        ("aspect", pa.float32()),  # natural logarithm of width / height
        ("thumbnail", pa.binary()),  # null likewise
    ]
)


@dataclass(frozen=True)
class ImageHashes:
    """Of one image; fields as in HASHES.

    Attributes:
        pixels: 16 bytes, the same for the same size and the same upright RGB pixels, however they were stored.
        perceptual: 16 bytes; near ones (Hamming distance) look alike. None for images that are tiny or nearly of one colour: all
            of them would look alike.
        aspect: natural logarithm of width / height.
        thumbnail: THUMBNAIL_BYTES bytes, SIDE x SIDE of luma, then COLOUR_SIDE x COLOUR_SIDE of each chroma; None likewise.
    """

    pixels: bytes
    perceptual: bytes | None = None
    aspect: float = 0.0
    thumbnail: bytes | None = None


def hash_image(image: Image.Image, hashing: Hashing) -> ImageHashes | None:
    """Of an upright RGB image (masters.data.images.upright_rgb)."""
    if hashing == "off":
        return None
    digest = hashlib.sha256(f"{image.width}x{image.height}/".encode())
    digest.update(image.tobytes())
    pixels, aspect = digest.digest()[:16], float(np.log(image.width / image.height))
    if hashing == "exact" or min(image.size) < _SMALLEST:
        return ImageHashes(pixels, aspect=aspect)
    luma, *chroma = _small(image).convert("YCbCr").split()
    if np.asarray(luma).std() < _PLAIN:
        return ImageHashes(pixels, aspect=aspect)
    bits = _phash()(luma, _HASH_SIDE).hash.ravel()
    thumbnail = luma.tobytes() + b"".join(
        band.resize((COLOUR_SIDE, COLOUR_SIDE), Image.Resampling.BILINEAR).tobytes() for band in chroma
    )
    return ImageHashes(pixels, np.packbits(bits, bitorder="big").tobytes(), aspect, thumbnail)


def _small(image: Image.Image) -> Image.Image:
    """SIDE x SIDE pixels, with nothing left of what is finer than two of them: lines of a page would turn into other patterns
    where a margin is cut off."""
    twice = image.resize((2 * SIDE, 2 * SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    smooth = twice.filter(ImageFilter.BoxBlur(1)).filter(ImageFilter.BoxBlur(1))
    return smooth.resize((SIDE, SIDE), Image.Resampling.BILINEAR)


@cache
def _phash() -> Any:
    """SciPy comes with it, which takes as long to import as a thousand images to hash."""
    import imagehash

    return imagehash.phash


def words(values: pa.Array) -> np.ndarray:
    """[n, 2] uint64 of binary(16) values; 0 for null."""
    if len(values) == 0:
        return np.empty((0, 2), np.uint64)
    filled = values.fill_null(bytes(16)) if values.null_count else values
    joined = b"".join(filled.to_pylist())
    return np.frombuffer(joined, ">u8").reshape(-1, 2).astype(np.uint64)
