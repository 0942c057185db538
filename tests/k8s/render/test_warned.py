"""What is taken but seldom meant is said in the notes; what is usual is not."""

import re
from pathlib import Path

import pytest
import yaml

from tests.k8s import chart as charts

CASES = yaml.safe_load((Path(__file__).parent / "warned.yaml").read_text())
HEADING = "Look again at these values:"


def notes(chart, *options: object) -> str:
    printed = charts.helm("install", "lab", chart, "--namespace", "team", "--dry-run=client", *options)
    return printed.split("\nNOTES:\n")[1]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_the_notes_say_what_to_look_at(chart, tmp_path, case):
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(case["values"]))
    said = notes(chart, "--values", file)
    assert case["message"] in said.split(HEADING)[1].split("\n\n")[0]


def warnings() -> list[str]:
    """The longest text without a template in each line of _warn.tpl."""
    lines = (charts.CHART / "templates" / "_warn.tpl").read_text().splitlines()
    return [max(re.split(r"\{\{.*?\}\}", line[2:]), key=len).strip() for line in lines if line.startswith("- ")]


@pytest.mark.parametrize("warning", warnings())
def test_every_warning_has_a_case(warning):
    assert any(warning[:25] in case["message"] or case["message"] in warning for case in CASES)


@pytest.mark.parametrize("scenario", [None, "minimal", "gke", "aks", "karpenter", "no-operator", "karpenter-pools"])
def test_nothing_is_said_of_usual_values(chart, scenario):
    options = () if scenario is None else ("--values", charts.CHART / "ci" / f"{scenario}.yaml")
    assert HEADING not in notes(chart, *options)


def test_a_client_of_one_namespace_is_usual(chart, tmp_path):
    file = tmp_path / "values.yaml"
    peer = {"namespaceSelector": {"matchLabels": {"team": "a"}}, "podSelector": {}}
    block = {"ipBlock": {"cidr": "10.0.0.0/8"}}
    file.write_text(yaml.safe_dump({"networkPolicy": {"clients": [peer, block]}}))
    assert HEADING not in notes(chart, "--values", file)
