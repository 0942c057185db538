"""How many tokens images take, from their sizes: the two ways in which processors of the known families cut them up."""

import math
from collections.abc import Mapping
from typing import Any

_MAX_ASPECT_RATIO = 200


def merged_patches(width: int, height: int, settings: Mapping[str, Any]) -> int:
    """Qwen: an image is resized to whole merged patches with between min and max pixels, each of which is a token.

    Args:
        width: pixels.
        height: pixels.
        settings: of the image processor; older files say min_pixels and max_pixels, newer ones size.

    Raises:
        ValueError: where one side is more than 200 times the other.
    """
    if max(width, height) > _MAX_ASPECT_RATIO * min(width, height):
        raise ValueError(f"{width} x {height}: one side is more than {_MAX_ASPECT_RATIO} times the other")
    size = settings.get("size") or {}
    smallest = settings.get("min_pixels") or size.get("shortest_edge") or 56 * 56
    largest = settings.get("max_pixels") or size.get("longest_edge") or 28 * 28 * 1280
    unit = settings.get("patch_size", 14) * settings.get("merge_size", 2)
    rows, columns = round(height / unit), round(width / unit)
    if rows * columns * unit**2 > largest:
        shrink = math.sqrt(height * width / largest)
        rows, columns = (max(1, math.floor(side / shrink / unit)) for side in (height, width))
    elif rows * columns * unit**2 < smallest:
        stretch = math.sqrt(smallest / (height * width))
        rows, columns = (math.ceil(side * stretch / unit) for side in (height, width))
    return rows * columns


def tiles(width: int, height: int, settings: Mapping[str, Any]) -> int:
    """InternVL: the grid of square tiles nearest in shape, and a thumbnail where there is more than one; each the same tokens.

    Two tokens more begin and end the image. Of grids that are equally near, a later one wins while the image has more than
    half of its pixels.

    Args:
        width: pixels.
        height: pixels.
        settings: of the image processor, and image_seq_length of the processor around it.
    """
    size = settings.get("size") or {}
    tile = size.get("height", 448) * size.get("width", 448)
    least, most = settings.get("min_patches", 1), settings.get("max_patches", 12)
    grids = [(c, r) for c in range(1, most + 1) for r in range(1, most + 1) if least <= c * r <= most]
    count, nearest = 1, math.inf
    for columns, rows in sorted(grids, key=math.prod):
        apart = abs(width / height - columns / rows)
        if apart < nearest or (apart == nearest and width * height > 0.5 * tile * columns * rows):
            count, nearest = columns * rows, apart
    return (count + 1 if count > 1 else 1) * settings.get("image_seq_length", 256) + 2
