"""Secrets that were written out: a recipe is copied into the run's record, into manifests and logs, its comments too."""

import re
from collections.abc import Iterator
from typing import Any

from masters.config.problems import Problem

_START = r"(?<![A-Za-z0-9])"
_KINDS = (  # as k8s/chart/templates/_validate_secrets.tpl has them
    (rf"{_START}(hf_|api_org_)[A-Za-z0-9]{{8,}}", "what looks like a token of the hub (hf_...)"),
    (
        rf"{_START}(sk-[-\w]{{20,}}|nvapi-[-\w]{{8,}}|AIza[-\w]{{20,}}|gsk_[A-Za-z0-9]{{16,}})",
        "what looks like the key of a model's API",
    ),
    (
        rf"{_START}(gh[pousr]_[A-Za-z0-9]{{8,}}|github_pat_\w{{8,}}|glpat-[-\w]{{8,}}|xox[abprs]-[-\w]{{8,}})",
        "what looks like the token of a code host or a chat",
    ),
    (rf"{_START}(AKIA|ASIA)[A-Z0-9]{{12,}}", "what looks like an access key of AWS"),
    (r"-----BEGIN [A-Z ]*PRIVATE KEY", "a private key"),
    (r"(?<![\w-])eyJ[-\w]{8,}\.eyJ[-\w]{8,}\.", "what looks like a JSON web token"),
    (r"[a-z][-+.a-z0-9]*://[^/@\s:?#]*:[^/@\s${(]+@", "an address with a password"),
    (
        r"(?i)[?&](sig|token|access_token|api_?key|key|password|secret|X-Amz-Signature|X-Goog-Signature)=[^&\s]",
        "an address with a key",
    ),
    (
        r"\b[A-Z][A-Z0-9_]*(TOKEN|PASSWORD|PASSWD|SECRET|API_KEY|ACCESS_KEY)=[^\s$<.'\"({]{8,}",
        "a variable with what looks like a secret",
    ),
)
_USER = re.compile(r"[a-z][-+.a-z0-9]*://[^/\s?#]*@")
_REMEDY = "Take it out, and give the NAME of an environment variable: hub_token_env, key_env, token_env."


def secret_in(text: str) -> str:
    """What a text seems to hold, in words; empty where it looks like nothing of the kind."""
    return next((words for pattern, words in _KINDS if re.search(pattern, text)), "")


def literal_secrets(recipe: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Fields of a recipe that hold a secret, each with what it looks like; an address with a user is one, too."""
    if isinstance(recipe, dict):
        for key, value in recipe.items():
            yield from literal_secrets(value, f"{where}.{key}" if where else str(key))
    elif isinstance(recipe, list | tuple):
        for index, value in enumerate(recipe):
            yield from literal_secrets(value, f"{where}[{index}]")
    elif isinstance(recipe, str):
        words = secret_in(recipe) or ("an address with a user" if _USER.match(recipe) else "")
        if words:
            yield where, words


def field_problem(where: str, words: str) -> Problem:
    """Of a field; its value is not shown."""
    rule = f"holds {words}, and the run's record and manifests would hold it; the value is not shown"
    return Problem(where, None, rule, _REMEDY)


def text_problems(text: str) -> Iterator[Problem]:
    """Of the lines of a recipe, comments above all: the text is what travels to a cluster."""
    for number, line in enumerate(text.splitlines(), 1):
        if words := secret_in(line):
            rule = f"holds {words}, and a recipe travels with its comments; the line is not shown"
            yield Problem(f"line {number}", None, rule, _REMEDY)
