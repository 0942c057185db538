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
    smallest, largest = _pixels(settings)
    unit = _unit(settings)
    rows, columns = round(height / unit), round(width / unit)
    if rows * columns * unit**2 > largest:
        shrink = math.sqrt(height * width / largest)
        rows, columns = (max(1, math.floor(side / shrink / unit)) for side in (height, width))
    elif rows * columns * unit**2 < smallest:
        stretch = math.sqrt(smallest / (height * width))
        rows, columns = (math.ceil(side * stretch / unit) for side in (height, width))
    return rows * columns


def _pixels(settings: Mapping[str, Any]) -> tuple[int, int]:
    """The fewest and the most pixels."""
    size = settings.get("size") or {}
    smallest = settings.get("min_pixels") or size.get("shortest_edge") or 56 * 56
    return smallest, settings.get("max_pixels") or size.get("longest_edge") or 28 * 28 * 1280


def _unit(settings: Mapping[str, Any]) -> int:
    """Side of the square that is a token, in pixels."""
    side: int = settings.get("patch_size", 14) * settings.get("merge_size", 2)
    return side


def pixel_limits(limits: Mapping[str, int], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Qwen: what `min_pixels` and `max_pixels` of a recipe change in the settings of a folder's image processor.

    Raises:
        ValueError: where there would be no image between the two.
    """
    smallest, largest = _pixels(settings)
    smallest, largest = limits.get("min_pixels", smallest), limits.get("max_pixels", largest)
    name, unit = ("max_pixels" if "max_pixels" in limits else "min_pixels"), _unit(settings)
    if "max_pixels" in limits and largest < unit**2:
        raise ValueError(
            f"images.{name} = {limits[name]}: is less than one token of the model, {unit} x {unit} pixels. "
            f"Write {unit**2} or more."
        )
    if largest < smallest:
        other = f"at least {smallest}" if name == "max_pixels" else f"at most {largest}"
        raise ValueError(
            f"images.{name} = {limits[name]}: the model's folder wants {other} pixels. Write both min_pixels and max_pixels."
        )
    # The older names would go before the size.
    return {"size": {"shortest_edge": smallest, "longest_edge": largest}, "min_pixels": None, "max_pixels": None}


def tile_limits(limits: Mapping[str, int], settings: Mapping[str, Any]) -> dict[str, Any]:
    """InternVL: what `max_tiles` of a recipe changes in the settings of a folder's image processor.

    Raises:
        ValueError: where the folder wants more tiles at least.
    """
    most, least = limits["max_tiles"], settings.get("min_patches", 1)
    if most < least:
        raise ValueError(f"images.max_tiles = {most}: the model's folder wants {least} at least. Raise it.")
    return {"max_patches": most}


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
