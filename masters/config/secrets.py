"""What looks like a secret is not shown, and a recipe, which is copied into the run's record, may not hold it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

HIDDEN = "(not shown)"

_NAME = re.compile(r"token|key|secret|password|credential", re.IGNORECASE)
_TOKEN = re.compile(r"hf_|sk-")
_INSIDE = re.compile(r"\b(?:hf_|sk-)\w[\w-]{15,}|(?<=://)[^\s/@:]+:[^\s/@]+(?=@)")
"""Within a text: a token, or a user with a password."""
_SHORTEST = 8  # of a value that is looked for in texts; `false` is none
_ADDRESS = re.compile(r"://.*[@?]", re.DOTALL)
"""With a user, or a query: both are places for passwords."""
_OPTION = re.compile(
    r"(.*[_-])?(tokens?|secrets?|passwords?|credentials?|(api|access|secret|private|auth)[_-]?key)", re.IGNORECASE
)


def shown(value: Any, key: str = "") -> Any:
    """The value as it may be shown; `key` is a name that says what it is, where no field of ours does."""
    if isinstance(value, dict):
        return {name: shown(inside, str(name)) for name, inside in value.items()}
    if isinstance(value, list | tuple):
        return [shown(inside, key) for inside in value]
    if isinstance(value, str) and (_TOKEN.match(value) or _ADDRESS.search(value) or _NAME.search(key)):
        return HIDDEN
    return value


def secret_options(options: Any, where: str) -> Iterator[str]:
    """Paths of the entries that look like secrets; the name of a variable that holds one, `..._env`, does not."""
    if isinstance(options, dict):
        for name, value in options.items():
            named = isinstance(value, str) and _OPTION.fullmatch(str(name)) is not None
            yield from [f"{where}.{name}"] if named else secret_options(value, f"{where}.{name}")
    elif isinstance(options, list):
        for index, value in enumerate(options):
            yield from secret_options(value, f"{where}[{index}]")
    elif isinstance(options, str) and _TOKEN.match(options):
        yield where


def secret_variables(recipe: Any) -> Iterator[str]:
    """Names of the variables that a recipe reads secrets from: what stands in its fields `..._env`."""
    if isinstance(recipe, dict):
        for name, value in recipe.items():
            named = isinstance(value, str) and str(name).endswith("_env")
            yield from [value] if named else secret_variables(value)
    elif isinstance(recipe, list | tuple):
        for value in recipe:
            yield from secret_variables(value)


def secret_values(environment: Mapping[str, str], names: Iterable[str] = ()) -> Iterator[str]:
    """What variables hold whose names say that it is a secret, and those that are named; paths to secrets are none."""
    named = set(names)
    for name, value in environment.items():
        if name in named or (_NAME.search(name) and not value.startswith(("/", "~"))):
            yield from (line for line in value.splitlines() if len(line) >= _SHORTEST)


def without_secrets(text: str, values: Iterable[str] = ()) -> str:
    """The text without these values, and without what looks like a token or a password in an address."""
    for value in sorted(values, key=len, reverse=True):  # one may hold another
        text = text.replace(value, HIDDEN)
    return _INSIDE.sub(HIDDEN, text)
