"""What pydantic finds wrong with a recipe, in our own words: where, what was written, which rule, what to do."""

import difflib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from masters.config.problems import Problem
from masters.config.run import RunConfig
from masters.config.secrets import HIDDEN, shown

_NUMBER = "Write a number without quotes, 0.5 or 1e-6."
_FIELDS = "Write its fields, one a line, or as {{field: value}}."
_REMEDIES = {
    "float_type": _NUMBER,
    "decimal_type": _NUMBER,
    "decimal_parsing": _NUMBER,
    "is_instance_of": _NUMBER,
    "finite_number": _NUMBER,
    "int_type": "Write a whole number without quotes.",
    "int_from_float": "Write a whole number without quotes.",
    "int_parsing_size": "Write a smaller number.",
    "bool_type": "Write true or false, without quotes.",
    "string_type": "Write text; in quotes, where it could be read as a number.",
    "string_too_short": "Fill it in.",
    "too_short": "Add to it.",
    "too_long": "Take away from it.",
    "tuple_type": "Write a list, [a, b] or one `- ` a line.",
    "dict_type": _FIELDS,
    "model_type": _FIELDS,
    "model_attributes_type": _FIELDS,
    "literal_error": "Write one of these.",
    "greater_than": "Write more than {gt}.",
    "greater_than_equal": "Write {ge} or more.",
    "less_than": "Write less than {lt}.",
    "less_than_equal": "Write {le} or less.",
}
_PATTERNS = {
    "name": "Use lower-case letters, digits and . _ - (40 at most), first a letter or a digit.",
    "alias": "Use lower-case letters, digits and . _ - (40 at most), first a letter or a digit.",
    "reader": "Write module:function.",
}
_RULES = {"is_instance_of": "input should be a valid number"}


def root_causes(errors: Sequence[Any]) -> Iterator[Any]:
    """Without complaints about a list that is too short only because its items were refused."""
    for error in errors:
        inside = [other for other in errors if other["loc"][: len(error["loc"])] == error["loc"] and other is not error]
        if not (error["type"] == "too_short" and inside):
            yield error


def problem_of(error: Any, data: Any) -> Problem:
    """A pydantic error in our own words."""
    path, value = _locate(error["loc"], data)
    kind, message = error["type"], error["msg"].removeprefix("Value error, ")
    if kind == "json_invalid":
        return Problem("file", None, "holds half of a character", "Take out what is written \\ud800 to \\udfff.")
    if kind == "missing":
        return Problem(path, None, "is required", "Add it; `masters check --schema` describes every field.")
    if kind == "extra_forbidden":
        known, name = list(_node(error["loc"][:-1]).get("properties", {})), str(error["loc"][-1])
        close = difflib.get_close_matches(name, known, n=1)
        remedy = f"Did you mean {close[0]}?" if close else f"Known here: {', '.join(known)}."
        return Problem(path, _short(shown(value, name)), "is not a field of a recipe", remedy)
    if kind.startswith("union_tag"):
        types = ", ".join(_node(error["loc"])["discriminator"]["mapping"])
        rule = "has no type" if kind == "union_tag_not_found" else "is of no type that there is"
        return Problem(path, _short(shown(value)), rule, f"Write one of these as type: {types}.")
    if path.endswith("_env"):
        return Problem(
            path,
            None,
            "must be the NAME of an environment variable; the value given is not shown",
            "Write HF_TOKEN, say.",
        )
    rule, _, remedy = message.partition(". ")
    if kind == "string_pattern_mismatch":
        remedy = _PATTERNS.get(str(error["loc"][-1]), "")
    remedy = remedy or _REMEDIES.get(kind, "").format_map(error.get("ctx", {}))
    # An address is hidden as soon as a user could be in it, however it is written.
    told = HIDDEN if path == "storage" and "@" in str(value) else shown(value)
    return Problem(path, _short(told), _RULES.get(kind, rule[0].lower() + rule[1:]), remedy)


def _locate(location: Sequence[str | int], data: Any) -> tuple[str, Any]:
    """The path as people write it, and the value there. Tags of unions, which pydantic adds, are left out."""
    path = ""
    for key in location:
        if isinstance(key, int):
            path, data = f"{path}[{key}]", data[key] if isinstance(data, list) and key < len(data) else None
        elif isinstance(data, dict) and key not in data and data.get("type") == key:
            continue
        else:
            path, data = f"{path}.{key}" if path else key, data.get(key) if isinstance(data, dict) else None
    return path, data


def _short(value: object) -> object:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _node(location: Sequence[str | int]) -> dict[str, Any]:
    """The schema of the section at a location; of a union with a tag, which the location names, the one of the tag."""
    schema = RunConfig.model_json_schema()
    node: dict[str, Any] = schema
    for key in location:
        if isinstance(key, int):
            node = node["items"]
        elif "discriminator" in node:
            node = {"$ref": node["discriminator"]["mapping"][key]}
        else:
            node = node["properties"][key]
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return node
