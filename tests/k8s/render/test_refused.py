"""Values that cannot work are refused before anything is installed, with words that help."""

import json
import re
from pathlib import Path

import pytest
import yaml

from tests.k8s import chart as charts

CASES = yaml.safe_load((Path(__file__).parent / "refused.yaml").read_text())


def refusal(chart: Path, values: dict, folder: Path) -> str:
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    with pytest.raises(charts.HelmError) as caught:
        charts.template(chart, "--values", file)
    return str(caught.value)


def test_there_are_hundreds_and_each_has_words_of_its_own():
    assert len(CASES) >= 200
    for key in ("name", "message"):
        assert len({case[key] for case in CASES}) == len(CASES)


@pytest.fixture(scope="module")
def said(chart, tmp_path_factory):
    """said(case) -> what Helm prints of it; each is asked once."""
    folder = tmp_path_factory.mktemp("refused")
    known: dict[str, str] = {}

    def ask(case: dict) -> str:
        if case["name"] not in known:
            known[case["name"]] = refusal(chart, case["values"], folder)
        return known[case["name"]]

    return ask


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_values_are_refused(said, case):
    assert case["message"] in said(case)


def rules() -> list[str]:
    """The longest text without a template in each message of _validate*.tpl, and the alternatives inside."""
    found = []
    for file in sorted(charts.CHART.glob("templates/_validate*.tpl")):
        lines = [line for line in file.read_text().splitlines() if line.startswith("- ")]
        found += [max(re.split(r"\{\{.*?\}\}", line[2:]), key=len).strip() for line in lines]
    return found


@pytest.mark.parametrize("rule", [rule for rule in rules() if "takes at most 17" not in rule])  # it has a test below
def test_every_rule_has_a_case(said, rule):
    assert any(rule in said(case) for case in CASES)


def test_all_problems_are_told_at_once(chart, tmp_path):
    said = refusal(chart, {"rayVersion": "2.50.0", "kueue": {"elastic": True}, "images": {"cpu": "masters"}}, tmp_path)
    for word in ("rayVersion is 2.50.0", "kueue.elastic is set", "images.cpu is"):
        assert word in said


def test_kueue_takes_seventeen_groups(chart, tmp_path):
    one = {"enabled": True, "minReplicas": 0, "maxReplicas": 1, "cpus": 1, "memoryGi": 2, "shmGi": 1}
    kueue = {"enabled": True, "queueName": "q", "elastic": True}
    fifteen = {"kueue": kueue, "workerGroups": {f"g{i}": one for i in range(15)}}
    said = refusal(chart, fifteen, tmp_path)
    assert "18 groups are enabled, Kueue takes at most 17" in said
    del fifteen["workerGroups"]["g0"]
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(fifteen))
    assert charts.template(chart, "--values", tmp_path / "values.yaml")


def test_every_level_that_is_ours_refuses_unknown_keys():
    schema = json.loads((charts.CHART / "values.schema.json").read_text())

    def walk(node: object, path: str) -> None:
        if isinstance(node, dict):
            if "properties" in node and node.get("type") == "object":
                assert node.get("additionalProperties") is False, path
            for key, below in node.items():
                walk(below, f"{path}/{key}")

    walk(schema, "")


def test_every_default_is_known_to_the_schema():
    """The schema lists no key that values.yaml does not show: judge is the group that shows them all."""
    schema = json.loads((charts.CHART / "values.schema.json").read_text())
    values = yaml.safe_load((charts.CHART / "values.yaml").read_text())
    assert schema["properties"].keys() - {"global"} == values.keys()
    assert schema["$defs"]["group"]["properties"].keys() == values["workerGroups"]["judge"].keys()
    for name, below in schema["properties"].items():
        if "properties" in below:
            assert below["properties"].keys() == values[name].keys(), name


def test_a_group_can_be_taken_away_and_another_added(chart, tmp_path):
    own = {"enabled": True, "minReplicas": 0, "maxReplicas": 1, "cpus": 1, "memoryGi": 2, "shmGi": 1}
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump({"workerGroups": {"train": None, "examine": own}}))
    (cluster,) = (one for one in charts.template(chart, "--values", file) if one["kind"] == "RayCluster")
    assert [group["groupName"] for group in cluster["spec"]["workerGroupSpecs"]] == ["examine", "generate", "judge"]


HARMLESS = {
    "env": {
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/x/token",
        "SSH_KEY_PATH": "keys/id",
        "TOKEN_NAME": "hub",
        "STEPS": "sk-learn-pipeline",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        "NO_TOKEN": "",
        "MODEL": "Qwen/Qwen2.5-VL-7B-Instruct",
        "AT": "https://host:8443/a@b",
        "TASK": "risk-assessment-of-x",
        "TEAM_KEYS": "a,b",
    },
    "head": {
        "annotations": {"secret.example.com/name": "hugging-face", "example.com/tokenizer": "fast"},
        "env": {"GOOGLE_APPLICATION_CREDENTIALS": "/var/run/key/credentials.json"},
        "initContainers": [
            {
                "name": "a",
                "image": "a:1",
                "args": ["--token=$(TOKEN)", "--token", "$(TOKEN)", "--max-tokens=16", "--token-file", "/x"],
                "env": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
            }
        ],
    },
    "secretEnv": {"OPENAI_KEY": {"secret": "sk-of-the-whole-team-4711", "key": "password"}},
    "huggingFace": {"existingSecret": "sk-of-the-whole-team-4711"},
    "extraObjects": [
        {
            "kind": "ExternalSecret",
            "spec": {
                "data": [{"secretKey": "token", "remoteRef": {"key": "hub"}}],
                "secretStoreRef": {"name": "vault", "token": "role"},
            },
        },
        "kind: ConfigMap\ndata: {of: SecretKeeper}\n",
    ],
}


def test_what_only_sounds_like_a_secret_is_taken(chart, tmp_path):
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(HARMLESS))
    assert charts.template(chart, "--values", file)


def test_no_secret_that_is_found_is_printed(chart, tmp_path):
    for value in ("hf_abcdefgh1234", "https://me:pw1234@host", "AKIAABCDEFGHIJKLMNOP"):
        assert value not in refusal(chart, {"env": {"A": value}, "head": {"env": {"B_TOKEN": value}}}, tmp_path)


@pytest.mark.parametrize(
    "image",
    ["masters:1", "a/b/c:1.2-x", "host:5000/a__b/c-d@sha256:" + "0" * 64, "Host.example/a:1", "localhost/a:B_1"],
)
def test_images_that_registries_take_are_taken(chart, image):
    assert charts.template(chart, "--set-string", f"images.cpu={image}")
