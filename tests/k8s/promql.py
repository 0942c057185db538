"""The expressions of the chart's alerts and dashboards, and the metrics that they name."""

import json
import re

from tests.k8s.chart import CHART

FUNCTIONS = {
    "and", "avg", "by", "changes", "count", "count_over_time", "increase", "last_over_time", "max", "max_over_time", "or", "rate", "sum", "vector",
}  # fmt: skip


def metric_names(expression: str) -> set[str]:
    """Names in a PromQL expression that are neither functions, nor labels, nor variables of a dashboard."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|by \([^)]*\)|\$\w+", "", expression)
    return set(re.findall(r"[a-z_:]{2,}", bare)) - FUNCTIONS


def dashboards() -> dict[str, dict]:
    """File name -> dashboard."""
    return {file.name: json.loads(file.read_text()) for file in sorted((CHART / "dashboards").glob("*.json"))}


def dashboard_expressions() -> list[str]:
    """Of all panels, and of the variables that ask for a metric's labels."""
    found = []
    for board in dashboards().values():
        found += [target["expr"] for panel in board["panels"] for target in panel["targets"]]
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                found.append(re.fullmatch(r"label_values\((.*), \w+\)", variable["query"])[1])
    return found


def rule_expressions() -> list[str]:
    """Of all alerts, from the template: without helm the labels are still its own."""
    text = (CHART / "templates" / "prometheusrule.yaml").read_text()
    text = re.sub(r"\{\{.*?\}\}", "", text)
    blocks = re.findall(r"expr: (?:\|-\n)?(.*?)\n\s+(?:for|labels):", text, re.DOTALL)
    return [" ".join(block.split()) for block in blocks]
