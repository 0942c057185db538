"""Where a recipe departs from the paper, from the marks on its fields; and which defaults are ours."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from masters.config.run import RunConfig

_SKIPPED = {"resources", "sources"}


@dataclass(frozen=True)
class Departure:
    """A field whose value is not the paper's. `paper` is None where the paper says nothing."""

    field: str
    value: str
    paper: str | None
    where: str


def departures(config: RunConfig) -> list[Departure]:
    """Fields that the paper gives and that have another value here."""
    return [found for found in _walk(config, "") if found.paper is not None and found.value != found.paper]


def silent(config: RunConfig) -> list[Departure]:
    """Fields on which the paper says nothing."""
    return [found for found in _walk(config, "") if found.paper is None]


def _walk(section: BaseModel, prefix: str) -> Iterator[Departure]:
    for name, info in type(section).model_fields.items():
        value: Any = getattr(section, name)
        path = f"{prefix}.{name}" if prefix else name
        if name in _SKIPPED:
            continue
        extra = info.json_schema_extra
        if isinstance(extra, dict) and "paper" in extra:
            said = None if extra["paper"] is None else str(extra["paper"])
            shown = getattr(value, "type", value) if isinstance(value, BaseModel) else value  # its fields follow
            yield Departure(path, str(shown), said, str(extra.get("where", "")))
        for place, item in enumerate(value) if isinstance(value, tuple) else ():
            if isinstance(item, BaseModel):
                yield from _walk(item, f"{path}[{place}]")
        if isinstance(value, BaseModel):
            yield from _walk(value, path)
