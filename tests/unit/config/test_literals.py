"""Secrets that are written out are refused wherever they stand in a recipe, and never shown."""

import json

import pytest

from masters.config.extending import recipe_text
from masters.config.literals import literal_secrets, secret_in, text_problems
from masters.config.load import load_recipe
from masters.config.problems import RecipeError

HUB, OPENAI, CODE, CLOUD = "hf_" + "a" * 34, "sk-" + "b" * 40, "ghp_" + "c" * 36, "AKIA" + "D" * 16
RECIPE = {
    "name": "x",
    "student": {"path": "Qwen/Qwen2.5-VL-3B-Instruct"},
    "curriculum": [{"alias": "big", "path": "Qwen/Qwen2.5-VL-7B-Instruct"}],
    "prepare": {"sources": [{"type": "charts"}]},
    "score": {"judge": {"type": "rule"}},
}

FIELDS = {  # overrides -> field, and what it is said to hold
    f"student.path=https://user:{HUB}@hub.example/m": ("student.path", "a token of the hub"),
    "student.path=https://user:hunter22@hub.example/m": ("student.path", "an address with a password"),
    "curriculum[0].path=https://deploy@hub.example/m": ("curriculum[0].path", "an address with a user"),
    "curriculum[0].path=https://hub.example/m?token=abc": ("curriculum[0].path", "an address with a key"),
    "student.path=https://b.example/m?X-Amz-Signature=0f": ("student.path", "an address with a key"),
    f'score.judge={{"type": "endpoint", "base_url": "https://h/v1", "model": "{OPENAI}"}}': (
        "score.judge.model", "the key of a model's API",
    ),
    f'prepare.sources=[{{"type": "hub", "name": "a", "path": "{HUB}"}}]': ("prepare.sources[0].path", "a token of the hub"),
    f'prepare.sources=[{{"type": "custom", "name": "a", "reader": "m:f", "options": {{"x": "{CODE}"}}}}]': (
        "prepare.sources[0].options.x", "the token of a code host",
    ),
    f"name=x,storage=s3://b/{CLOUD}": ("storage", "an access key of AWS"),
}  # fmt: skip


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "x.yaml").write_text(json.dumps(RECIPE))
    return tmp_path / "x.yaml"


@pytest.mark.parametrize("overrides", FIELDS)
def test_a_field_that_holds_one_is_refused_without_its_value(recipe, overrides):
    field, words = FIELDS[overrides]
    given = overrides.split(",", 1) if overrides.startswith("name=") else [overrides]
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, given)
    (line,) = (line for line in str(caught.value).splitlines() if f": {field}: holds " in line)
    assert words in line
    assert "give the NAME of an environment variable" in line
    for secret in (HUB, OPENAI, CODE, CLOUD, "hunter22", "token=abc", "Signature=0f"):
        assert secret not in str(caught.value)


def test_options_of_a_reader_are_told_once(recipe):
    source = {"type": "custom", "name": "a", "reader": "m:f", "options": {"token": HUB}}
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, [f"prepare.sources=[{json.dumps(source)}]"])
    assert len(caught.value.problems) == 1


LINES = {
    f"# the old one was {HUB}": "a token of the hub",
    f"# export OPENAI_KEY={OPENAI}": "the key of a model's API",
    "# MY_TOKEN=abcdefgh1234": "a variable with what looks like a secret",
    "seed: 1  # from https://me:pass@git.example/x": "an address with a password",
    "# -----BEGIN RSA PRIVATE KEY-----": "a private key",
    "# Authorization: Bearer eyJhbGciOiJI.eyJzdWIiOiIx.sig": "a JSON web token",
}
HARMLESS = [
    "hub_token_env: HF_TOKEN",
    "# set HF_TOKEN=... before",
    "# export HF_TOKEN=$(cat ~/.token)",
    "# HF_TOKEN=<yours>",
    "# see https://docs.example/a?page=2 and mail ann@example.com",
    "# s3://bucket/x@y, git@github.com:me/x.git, ssh://git@host/x",
    "path: Qwen/Qwen2.5-VL-7B-Instruct@cc594898137f460bfe9f0759e9844b3ce807cfb5",
    "# tasks sk-learn, hf_hub, half_and_half",
    "min_tokens: 16  # tokens=120000000",
]


@pytest.mark.parametrize("line", LINES)
def test_a_comment_travels_too(tmp_path, line):
    (tmp_path / "x.yaml").write_text(f"name: x\n{line}\n")
    (problem,) = text_problems(recipe_text(tmp_path / "x.yaml"))
    assert problem.path == "line 2"
    assert LINES[line] in str(problem)
    assert line[-12:] not in str(problem)


@pytest.mark.parametrize("line", HARMLESS)
def test_what_only_speaks_of_secrets_is_fine(line):
    assert secret_in(line) == ""
    assert list(literal_secrets({"a": [line]})) == []
