"""No null changes a meaning: each is refused with its path, or is what values.yaml says."""

from collections.abc import Iterator

import pytest
import yaml

from tests.k8s import chart as charts

VALUES = yaml.safe_load((charts.CHART / "values.yaml").read_text())
Path = tuple[str, ...]


def paths(values: dict, above: Path = ()) -> Iterator[Path]:
    """Every key of the chart's values, at every depth. A group that is null is taken away; the operator's are its own."""
    for key, value in values.items():
        path = (*above, key)
        if path[0] != "kuberay-operator" or len(path) == 1:
            if not (len(path) == 2 and path[0] == "workerGroups"):
                yield path
            if isinstance(value, dict):
                yield from paths(value, path)


NULLS = list(paths(VALUES))


def test_there_are_nulls_of_every_depth():
    assert len(NULLS) > 180
    assert {len(path) for path in NULLS} == {1, 2, 3}


@pytest.mark.parametrize("path", NULLS, ids=".".join)
def test_a_null_is_refused_with_its_path(chart, tmp_path, path):
    nested: object = None
    for key in reversed(path):
        nested = {key: nested}
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(nested))
    with pytest.raises(charts.HelmError) as caught:
        charts.template(chart, "--values", file)
    above = "".join(f"/{key}" for key in path[:-1])
    assert f"at '{above}': missing property '{path[-1]}'" in str(caught.value)
    assert ".tpl:" not in str(caught.value)  # a trace of the templates helps nobody
