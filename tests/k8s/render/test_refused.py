"""Values that cannot work are refused before anything is installed, with words that help."""

import json
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


def test_there_are_forty_and_each_has_words_of_its_own():
    assert len(CASES) >= 40
    for key in ("name", "message"):
        assert len({case[key] for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_values_are_refused(chart, tmp_path, case):
    assert case["message"] in refusal(chart, case["values"], tmp_path)


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
