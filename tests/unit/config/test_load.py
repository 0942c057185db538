import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from masters.config.load import load_recipe, recipe_schema, validate
from masters.config.problems import RecipeError

ROOT = Path(__file__).parents[3]
SMALL = """
student: {path: a/student}
curriculum: [{alias: big, path: a/teacher}]
prepare: {sources: [{type: charts}]}
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "small.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def problems(path, overrides=()):
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    return [str(problem) for problem in caught.value.problems]


def test_a_small_recipe_is_enough_and_is_named_after_its_file(write):
    config = load_recipe(write(SMALL, "My-Run.yaml"))
    assert config.name == "my-run"
    assert config.levels(0) == ("big@r0.20", "big@r0.15", "big@r0.10", "big@r0.05", "big@r0.00")


def test_the_papers_settings_are_the_defaults(write):
    config = load_recipe(write(SMALL))
    generate, train = config.generate, config.train
    assert (generate.temperature, generate.top_p, generate.top_k, generate.repetition_penalty) == (
        1.0,
        0.9,
        50,
        1.05,
    )
    assert generate.mix.teacher + generate.mix.student == 8
    assert (train.lr, train.lr_schedule, train.policy_weight, train.kl_weight, train.precision) == (
        1e-6,
        "constant",
        1,
        0.1,
        "bf16",
    )
    assert config.score.judge.type == "teacher"


def test_yaml_1_2_knows_1e_6_as_a_number_and_no_as_a_word(write):
    config = load_recipe(write(SMALL + "train: {lr: 1e-6}\nname: 'no'\n"))
    assert config.train.lr == 1e-6
    assert config.name == "no"
    assert load_recipe(write(SMALL + "name: no\n")).name == "no"


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("train.lr=1e-5", lambda c: c.train.lr == 1e-5),
        ("curriculum[0].r_max=0.4", lambda c: len(c.levels(0)) == 9),
        ("curriculum.0.mask_step=0.1", lambda c: c.levels(0) == ("big@r0.20", "big@r0.10", "big@r0.00")),
        (
            "resources.train.labels={ray.io/node-group: train}",
            lambda c: c.resources.train.labels == {"ray.io/node-group": "train"},
        ),
        ("generate.mix.student=0", lambda c: c.generate.mix.student == 0),
    ],
)
def test_overrides(write, override, read):
    assert read(load_recipe(write(SMALL), [override]))


@pytest.mark.parametrize(
    "override", ["train.lr", "=3", "curriculum[9].r_max=0", "train..lr=3", "curriculum[x].r_max=0"]
)
def test_an_override_that_leads_nowhere(write, override):
    assert "--set" in problems(write(SMALL), [override])[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train: {lr: fast}", ["train.lr = \"fast\": input should be a valid number"]),
        ("train: {lrr: 1e-6}", ["train.lrr = 1e-06: is not a field of a recipe. Did you mean lr?"]),
        ("generate: {top_p: 1.5}", ["generate.top_p = 1.5: input should be less than or equal to 1"]),
        ("generate: {shard_size: true}", ["generate.shard_size = true: input should be a valid integer"]),
        ("prepare: {sources: [{type: llava, name: x}]}", ["prepare.sources[0].path: is required. Add it"]),
        ("prepare: {sources: [{type: llvaa, name: x, path: y}]}", ["prepare.sources[0] = "]),
        ("prepare: {sources: [{type: charts, tran_images: 3}]}", ["prepare.sources[0].tran_images = 3: is not a field of a recipe. Did you mean train_images?"]),
        ("prepare: {sources: []}", ["prepare.sources = []: tuple should have at least 1 item"]),
        ("prepare: {sources: [{type: charts}, {type: charts}]}", ["prepare.sources[1].name = charts: is used twice"]),
        ("curriculum: [{alias: big, path: b, mask_step: 0.06}]", ["curriculum[0].mask_step = 0.06: r_max 0.2 / 0.06 is not a whole number of steps. Use 0.05 (5 levels)."]),
        ("curriculum: [{alias: big, path: b, r_max: 1.2}]", ["curriculum[0].r_max = 1.2: input should be less than or equal to 1"]),
        ("curriculum: [{alias: student, path: b}]", ["curriculum[0].alias = student: names another author"]),
        ("curriculum: [{alias: Big@1, path: b}]", ["curriculum[0].alias = \"Big@1\": string should match pattern"]),
        ("curriculum: [{alias: b, path: b}, {alias: b, path: c}]", ["curriculum[1].alias = b: is used twice"]),
        ("generate: {mix: {teacher: 0, student: 0}}", ["generate.mix = 0 + 0 + 0: nobody answers"]),
        ("generate: {max_tokens: 5000}", ["generate.max_tokens = 5000: leaves no room for the prompt in engine.max_model_len 4096"]),
        ("train: {groups_per_step: 10}\nresources: {train: {workers: 4}}", ["train.groups_per_step = 10: must be a multiple of resources.train.workers 4 x groups_per_micro_batch 1. Use 8."]),
        ("resources: {score: {min_actors: 3}}", ["resources.score = {\"min_actors\": 3}: max_actors is 1, below min_actors 3. Raise max_actors."]),
        ("curriculum: [{alias: parts, path: b}, {alias: baseline, path: b}]", ["curriculum[0].alias = parts: names another author or folder", "curriculum[1].alias = baseline: names another"]),
        ("curriculum: [{alias: big, path: b, mask_step: 1e-30}]", ["curriculum[0].mask_step = 1E-30: r_max 0.2 / 1E-30 is more than 1000 steps. Use a larger mask_step."]),
        ("curriculum: [{alias: big, path: b, mask_step: 0.0001}]", ["curriculum[0].mask_step = 0.0001: r_max 0.2 / 0.0001 is more than 1000 steps."]),
        ("curriculum: [{alias: big, path: b, r_max: [1]}]", ["curriculum[0].r_max = [1]: input should be a valid number. Write a number without quotes"]),
        ("curriculum: [{alias: big, path: b, r_max: .nan}]", ["curriculum[0].r_max = NaN: input should be a finite number. Write a number"]),
        ("train: {lr: .inf}", ["train.lr = Infinity: input should be a finite number. Write a number"]),
        ("train: {betas: [2.0, -1]}", ["train.betas[0] = 2.0: input should be less than 1. Write less than 1.0.", "train.betas[1] = -1: input should be greater than or equal to 0. Write 0.0 or more."]),
        ("evaluate: {max_tokens: 4096}", ["evaluate.max_tokens = 4096: leaves no room for the prompt in engine.max_model_len 4096. Raise"]),
        ("score: {judge: {type: teacher, max_tokens: 9999}}", ["score.judge.max_tokens = 9999: leaves no room for the prompt"]),
        ("score: {judge: {type: rule, tolerance: 0.1}}", ["score.judge.tolerance = 0.1: is not a field of a recipe. Known here: type."]),
        ("score: {judge: {attempts: 3}}", ["score.judge = {\"attempts\": 3}: has no type. Write one of these as type: endpoint, model, rule, teacher."]),
        ("score: rule", ["score = \"rule\": input should be an object. Write its fields, one a line, or as {field: value}."]),
        ("train: {kl: k4}", ["train.kl = \"k4\": input should be 'exact' or 'k3'. Write one of these."]),
        ("name: My Run", ["name = \"My Run\": string should match pattern '^[a-z0-9][a-z0-9._-]{0,39}$'. Use lower-case letters"]),
        ("name: \"\\ud800\"", ["file: holds half of a character."]),
        ("engine: {dtype: float32}", ["train.precision = bf16: is narrower than engine.dtype float32"]),
    ],
)  # fmt: skip
def test_errors_name_field_value_rule_and_remedy(write, text, expected):
    lines = dict(line.split(":", 1) for line in SMALL.strip().splitlines())
    lines.update(line.split(":", 1) for line in text.splitlines())
    found = problems(write("\n".join(f"{key}:{value}" for key, value in lines.items())))
    assert len(found) == len(expected)
    for problem, start in zip(found, expected, strict=True):
        assert problem.startswith(start), problem


def test_all_problems_are_told_at_once(write):
    path = write(SMALL + "train: {lr: fast, kl: k4}\nnme: x\n")
    with pytest.raises(RecipeError, match="3 problems; nothing was started") as caught:
        load_recipe(path)
    assert str(caught.value).count(str(path)) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "is not YAML"),
        ("a: 1\na: 2", "is not YAML"),
        ("- a\n- b", "is not a mapping of fields"),
        ("", "is not a mapping of fields"),
        ("a: &a [*a]", "cannot be used: Circular reference"),
        ("? [a, b]\n: 3", "cannot be used: keys must be str"),
        ("a: 2020-99-99", "cannot be used: month must be in 1..12"),
        ("[" * 3000, "is nested too deeply"),
        ("a: b\x07", "is not YAML: unacceptable character #x0007"),
        ("a: \udcff", "is not UTF-8 at byte 3. Save it as UTF-8."),
    ],
)
def test_files_that_are_no_recipes(write, text, message):
    path = write("")
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("file", "name"),
    [("My Recipe (1).yaml", "my-recipe-1"), ("run_-.yaml", "run_-"), (".x.yaml", "x"), ("a" * 50 + ".yaml", "a" * 40)],
)
def test_a_file_of_any_name_names_a_run(write, file, name):
    assert load_recipe(write(SMALL, file)).name == name
    assert load_recipe(write(SMALL, f"{name}.yaml")).name == name


def test_a_file_whose_name_names_no_run(write):
    assert problems(write(SMALL, "(\u00e9).yaml")) == [
        "name: is required. Add it; `masters check --schema` describes every field."
    ]


def test_a_file_that_is_not_there(tmp_path):
    assert "No such file" in problems(tmp_path / "none.yaml")[0]


def test_secrets_are_taken_by_the_name_of_a_variable_and_never_shown(write):
    assert load_recipe(write(SMALL + "hub_token_env: MY_TOKEN\n")).hub_token_env == "MY_TOKEN"
    (problem,) = problems(write(SMALL + "hub_token_env: hf_aBcDeFgH\n"))
    assert "hf_aBcDeFgH" not in problem
    assert "NAME of an environment variable" in problem


@pytest.mark.parametrize(
    "override",
    [
        "hub_token=SECRET", "student.api_key=SECRET", "student.tken={password: SECRET}", "student.path=[hf_SECRET]",
        "x=hf_SECRET", "student.path={a: sk-SECRET}", "x=https://me:SECRET@host", "train.lr.token=SECRET", "hub_token SECRET",
        "score.judge={type: hf_SECRET}", "curriculum[x].path=hf_SECRET",
        "storage=s3://key:SECRET@bucket", "storage=s3://key:SEC/SECRET@bucket", "storage=s3://b/x?secret_key=SECRET",
        "prepare.sources=[{type: custom, name: x, reader: 'a:b', options: {hub_token: SECRET}}]",
        "prepare.sources=[{type: custom, name: x, reader: 'a:b', options: {api-key: SECRET}}]",
        "prepare.sources=[{type: custom, name: x, reader: 'a:b', options: {login: {password: SECRET}}}]",
        "prepare.sources=[{type: custom, name: x, reader: 'a:b', options: {login: [hf_SECRET]}}]",
    ],
)  # fmt: skip
def test_what_looks_like_a_secret_is_refused_and_not_shown(write, override):
    found = problems(write(SMALL), [override])
    assert found
    assert "SECRET" not in "".join(found)


def test_options_may_name_variables_and_count_tokens(write):
    options = {"token_env": "MY_TOKEN", "max_tokens": 3, "tokenizer": "x", "key": "id"}
    source = {"type": "custom", "name": "x", "reader": "a:b", "options": options}
    config = load_recipe(write(SMALL), [f"prepare.sources={json.dumps([source])}"])
    assert config.prepare.sources[0].options == options


@pytest.mark.parametrize("storage", ["runs", "/data/a@b", "s3://bucket/folder", "gs://bucket", "file:///data/runs"])
def test_storage_is_a_path_or_an_address(write, storage):
    assert load_recipe(write(SMALL), [f"storage={storage}"]).storage == storage


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("~/runs", "`~` is not expanded. Write the path out."),
        ("hdfs://host/runs", "is of no kind that is known. Write s3://bucket/folder"),
        ("s3:/bucket/runs", "is neither a path nor an address. Write s3://bucket/folder"),
        ("s3://", "names no folder."),
        ("s3:///runs", "names no folder."),
        ("file://runs", "names no folder. Write s3://bucket/folder, gs://bucket/folder or file:///folder."),
        ("s3://me@bucket", "holds a user, which everyone would see. Set AWS_ACCESS_KEY_ID in the environment instead."),
        ("s3://bucket?region=x", "holds settings after `?`. Set AWS_ENDPOINT_URL, AWS_REGION"),
    ],
)
def test_other_storage_is_refused(write, storage, message):
    (problem,) = problems(write(SMALL), [f"storage={storage}"])
    assert message in problem


def test_paths_that_exist_become_absolute(write, tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    config = load_recipe(write(SMALL.replace("a/student", "model")))
    assert config.student.path == str(tmp_path / "model")
    assert config.curriculum[0].path == "a/teacher"


DATA = ROOT / "recipes" / "paper" / "data.yaml"
SHIPPED = sorted({*(ROOT / "recipes").rglob("[!_]*.yaml")} - {DATA})
BASES = [*sorted((ROOT / "recipes").rglob("_*.yaml")), DATA]
"""What recipes extend; the first letter of their names tells that they are none, but for the sources of the paper."""


@pytest.mark.parametrize("recipe", SHIPPED, ids=lambda p: p.stem)
def test_shipped_recipes_are_fine(recipe, monkeypatch):
    monkeypatch.chdir(ROOT)
    load_recipe(recipe)


@pytest.mark.parametrize("base", BASES, ids=lambda p: p.stem)
def test_what_recipes_extend_is_no_recipe(base):
    assert [problem.partition(":")[0] for problem in problems(base)] == ["student", "curriculum"]


def test_the_recipe_that_init_writes_is_fine():
    load_recipe(ROOT / "masters" / "config" / "templates" / "recipe.yaml")


def test_the_schema_describes_every_field():
    schema = recipe_schema()
    missing = [
        f"{name}.{field}"
        for name, section in {"": schema, **schema["$defs"]}.items()
        for field, entry in section.get("properties", {}).items()
        if not ({"description", "$ref", "const"} & entry.keys()) and field != "name"
    ]
    assert missing == []
    json.dumps(schema)


@pytest.mark.parametrize(
    "recipe",
    [*SHIPPED, ROOT / "masters" / "config" / "templates" / "recipe.yaml"],
    ids=lambda p: p.stem,
)
def test_editors_accept_what_is_shipped(recipe):
    schema = recipe_schema()
    assert schema["title"] == "Masters recipe"
    data = YAML(typ="safe", pure=True).load(recipe.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(data, schema)
    without = {name: value for name, value in data.items() if name != "student"}
    if "extends" in data:
        jsonschema.validate(without, schema)  # its base may have one
        del without["extends"]
    with pytest.raises(jsonschema.ValidationError, match="'student' is a required property"):
        jsonschema.validate(without, schema)


def test_validate_takes_plain_data():
    with pytest.raises(RecipeError, match="student: is required"):
        validate({"name": "x"})


def test_checking_imports_neither_torch_nor_ray():
    code = "import sys, masters.config.load, masters.cli; print([m for m in ('torch', 'ray', 'numpy', 'pyarrow') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
