"""Images for perf/duplicates.py, drawn from seeds: photographs of a sort, charts, diagrams, pages, tables, shapes; and copies.

A twin of an image is another one that differs from it in one thing only: a bar, a word, a box, a colour, a region of a
photograph. Templates of data sets make such images, and perceptual hashes confuse them. A copy is the same image re-compressed,
scaled, or with 2 % cut off.
"""

import io
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFont

KINDS = ("photo", "bars", "lines", "diagram", "page", "table", "shapes")
COPIES = ("recompressed", "resized", "cropped")

_COLOURS = (
    "#1f77b4",
    "#ff7f0e",
    "#2ca02c",
    "#d62728",
    "#9467bd",
    "#8c564b",
    "#e377c2",
    "#7f7f7f",
    "#bcbd22",
    "#17becf",
)
# fmt: off
_WORDS = (
    "alpha", "budget", "cell", "delta", "energy", "field", "growth", "heat", "index", "joint", "kernel", "light",
    "model", "north", "output", "price", "quartz", "rate", "sales", "total", "urban", "value", "water", "xenon",
    "yield", "zone", "annual", "share", "of", "the", "in", "and", "by", "is", "north", "south", "mean", "median",
    "north-east", "Q1", "Q2", "Q3", "Q4",
)
# fmt: on
_FONTS = [ImageFont.load_default(size) for size in (10, 12, 14, 18)]


def draw(kind: str, seed: int, twin: int = 0) -> Image.Image:
    """An image; twin 1, 2, ... of the same seed differ from it, and from each other, in one thing each."""
    rng = random.Random(f"{kind}/{seed}")
    size = rng.randrange(280, 520), rng.randrange(200, 420)
    return _DRAWN[kind](size, rng, random.Random(f"{kind}/{seed}/{twin}") if twin else None)


def copy(image: Image.Image, how: str, rng: random.Random) -> Image.Image:
    """A copy of an image."""
    if how == "recompressed":
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=rng.randint(30, 90))
        return Image.open(stream).convert("RGB")
    width, height = image.size
    if how == "resized":
        scale = 2 ** rng.uniform(-1, 1)
        way = rng.choice([Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS])
        return image.resize((max(1, round(scale * width)), max(1, round(scale * height))), way)
    assert how == "cropped"
    off_x, off_y = max(1, round(0.02 * width)), max(1, round(0.02 * height))
    left, top = rng.randint(0, off_x), rng.randint(0, off_y)
    return image.crop((left, top, left + width - off_x, top + height - off_y))


def _photo(size, rng, other):
    noise = np.random.default_rng(rng.getrandbits(32))
    planes = np.zeros((size[1], size[0], 3), np.float32)
    for cells, strength in ((3, 70), (9, 35), (40, 18)):
        small = noise.normal(0, strength, (cells, cells, 3)).astype(np.float32)
        small = 0.7 * small.mean(2, keepdims=True) + 0.3 * small
        planes += np.stack(
            [
                np.asarray(Image.fromarray(small[:, :, band]).resize(size, Image.Resampling.BICUBIC))
                for band in range(3)
            ],
            2,
        )
    image = Image.fromarray(np.clip(planes + rng.randrange(90, 160), 0, 255).astype(np.uint8))
    if other:
        width, height = (int(other.uniform(0.1, 0.2) * side) for side in size)
        x, y = other.randrange(size[0] - width), other.randrange(size[1] - height)
        ImageDraw.Draw(image).ellipse((x, y, x + width, y + height), fill=other.choice(_COLOURS))
    return image


def _chart(size, rng):
    image = Image.new("RGB", size, rng.choice(["white", "white", "white", "#f4f4f4", "#eaeaf2"]))
    pen, font = ImageDraw.Draw(image), rng.choice(_FONTS[:3])
    box = (
        rng.randrange(30, 60),
        rng.randrange(24, 44),
        size[0] - rng.randrange(10, 30),
        size[1] - rng.randrange(24, 44),
    )
    pen.text(
        (box[0] + rng.randrange(40), 4), " ".join(rng.choices(_WORDS, k=rng.randint(2, 5))), fill="black", font=font
    )
    ticks, grid = rng.randint(3, 7), rng.random() < 0.5
    for tick in range(ticks):
        y = box[3] - (box[3] - box[1]) * tick / (ticks - 1)
        pen.text((4, y - 6), str(tick * rng.choice([5, 10, 20, 25])), fill="black", font=_FONTS[0])
        pen.line((box[0] if grid else box[0] - 4, y, box[2] if grid else box[0], y), fill="#bbbbbb")
    pen.line((box[0], box[1], box[0], box[3], box[2], box[3]), fill="black")
    return image, pen, box


def _bars(size, rng, other):
    image, pen, box = _chart(size, rng)
    count, colour = rng.randint(3, 9), rng.choice(_COLOURS)
    values = [rng.uniform(0.1, 0.98) for _ in range(count)]
    many = rng.random() < 0.4
    fills = [rng.choice(_COLOURS) if many else colour for _ in range(count)]
    names = rng.choices(_WORDS, k=count)
    if other:
        place = other.randrange(count)
        if other.random() < 0.75:
            near = [
                value for value in (values[place] + s * other.uniform(0.07, 0.3) for s in (-1, 1)) if 0.02 < value < 1
            ]
            values[place] = other.choice(near)
        else:
            fills[place] = other.choice([colour for colour in _COLOURS if colour != fills[place]])
    step = (box[2] - box[0]) / count
    for place, value in enumerate(values):
        left = box[0] + step * (place + 0.15)
        pen.rectangle((left, box[3] - value * (box[3] - box[1]), left + 0.7 * step, box[3] - 1), fill=fills[place])
        pen.text((left, box[3] + 4), names[place][:7], fill="black", font=_FONTS[0])
    return image


def _lines(size, rng, other):
    image, pen, box = _chart(size, rng)
    count, points = rng.randint(1, 4), rng.randint(4, 12)
    series = [[rng.uniform(0.05, 0.95) for _ in range(points)] for _ in range(count)]
    fills, thick = rng.sample(_COLOURS, count), rng.choice([2, 2, 3])
    if other:
        series[other.randrange(count)] = [other.uniform(0.05, 0.95) for _ in range(points)]
    for values, fill in zip(series, fills, strict=True):
        xy = [
            (box[0] + (box[2] - box[0]) * at / (points - 1), box[3] - value * (box[3] - box[1]))
            for at, value in enumerate(values)
        ]
        pen.line(xy, fill=fill, width=thick)
    return image


def _diagram(size, rng, other):
    image = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(image)
    columns, rows = rng.randint(2, 4), rng.randint(2, 4)
    cells = [(c, r) for c in range(columns) for r in range(rows) if rng.random() < 0.75] or [(0, 0)]
    wide, high = size[0] / columns, size[1] / rows
    looks = {
        cell: (rng.choice(["box", "oval"]), rng.choice(["white", "#dde8f5", "#fbe5d6", "#e2f0d9"])) for cell in cells
    }
    texts = {cell: " ".join(rng.choices(_WORDS, k=rng.randint(1, 2))) for cell in cells}
    arrows = [rng.sample(cells, 2) for _ in range(rng.randint(2, 5))] if len(cells) > 1 else []
    if other and arrows and other.random() < 0.5:
        arrows[other.randrange(len(arrows))] = other.sample(cells, 2)
        looks[cells[0]] = (looks[cells[0]][0], other.choice(["#ffe699", "#f4b183", "#9dc3e6", "#c5e0b4"]))
    elif other:
        cell = other.choice(cells)
        looks[cell] = (
            "box" if looks[cell][0] == "oval" else "oval",
            other.choice(["#ffe699", "#f4b183", "#9dc3e6", "#a9d18e"]),
        )
    for (c, r), (d, e) in arrows:
        pen.line((wide * (c + 0.5), high * (r + 0.5), wide * (d + 0.5), high * (e + 0.5)), fill="black", width=2)
    for (c, r), (form, fill) in looks.items():
        edges = (wide * (c + 0.15), high * (r + 0.2), wide * (c + 0.85), high * (r + 0.8))
        (pen.rectangle if form == "box" else pen.ellipse)(edges, fill=fill, outline="black", width=2)
        pen.text((wide * (c + 0.22), high * (r + 0.45)), texts[c, r][:14], fill="black", font=_FONTS[1])
    return image


def _page(size, rng, other):
    image = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(image), rng.choice(_FONTS[:3])
    margin, lines = rng.randrange(12, 40), []
    height = font.size + rng.randint(3, 8)
    for _ in range(margin, size[1] - margin - height, height):
        lines.append(
            " ".join(
                rng.choices(_WORDS, k=max(2, int((size[0] - 2 * margin) / (font.size * 3.1)) - rng.choice([0, 0, 1])))
            )
        )
    if other:
        start = other.randrange(len(lines))
        for at in range(start, min(len(lines), start + 3)):
            lines[at] = " ".join(other.choices(_WORDS, k=len(lines[at].split())))
    for at, line in enumerate(lines):
        pen.text((margin, margin + at * height), line, fill="black", font=font)
    return image


def _table(size, rng, other):
    image = Image.new("RGB", size, "white")
    pen, rows, columns = ImageDraw.Draw(image), rng.randint(4, 10), rng.randint(2, 5)
    cells = [
        [rng.choice([rng.choice(_WORDS), str(rng.randrange(10_000))]) for _ in range(columns)] for _ in range(rows)
    ]
    if other:
        cells[other.randrange(1, rows)] = [str(other.randrange(10_000_000)) for _ in range(columns)]
    high, wide = size[1] / rows, size[0] / columns
    pen.rectangle((0, 0, size[0], high), fill=rng.choice(_COLOURS))
    for r, row in enumerate(cells):
        pen.line((0, r * high, size[0], r * high), fill="#999999")
        for c, text in enumerate(row):
            pen.text((c * wide + 6, r * high + 4), text[:9], fill="black", font=_FONTS[1])
    return image


def _shapes(size, rng, other):
    image = Image.new("RGB", size, rng.choice(["white", "black", "#eeeeee", "#20304a"]))
    pen, count = ImageDraw.Draw(image), rng.randint(2, 6)
    shapes = []
    for _ in range(count):
        radius = rng.uniform(0.06, 0.16) * min(size)
        x, y = rng.uniform(radius, size[0] - radius), rng.uniform(radius, size[1] - radius)
        shapes.append([rng.choice("os^"), x, y, radius, rng.choice(_COLOURS)])
    if other:
        shape = shapes[-1]
        if other.random() < 0.6:
            shape[1], shape[2] = (other.uniform(shape[3], side - shape[3]) for side in size)
        else:
            shape[4] = other.choice([colour for colour in _COLOURS if colour != shape[4]])
    for form, x, y, radius, fill in shapes:
        edges = (x - radius, y - radius, x + radius, y + radius)
        if form == "^":
            pen.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=fill)
        else:
            (pen.ellipse if form == "o" else pen.rectangle)(edges, fill=fill)
    return image


_DRAWN = {
    "photo": _photo,
    "bars": _bars,
    "lines": _lines,
    "diagram": _diagram,
    "page": _page,
    "table": _table,
    "shapes": _shapes,
}
