"""Every scenario of k8s/chart/ci rendered once. No helm, no test: `python tests/k8s/get_tools.py` fetches it."""

import functools

import pytest
import yaml

from tests.k8s import chart as charts
from tests.k8s.render.pods import Rendered
from tests.k8s.tools import find


@pytest.fixture(scope="session")
def chart(tmp_path_factory):
    if find("helm") is None:
        pytest.skip("helm is neither on PATH nor in .build/tools; run tests/k8s/get_tools.py")
    return charts.vendored(tmp_path_factory.mktemp("chart"))


@pytest.fixture(scope="session")
def rendered(chart):
    """rendered(name of a scenario or None, release=..., options...) -> Rendered."""

    @functools.cache
    def render(scenario: str | None = None, *options: str, release: str = "lab") -> Rendered:
        allowed: list[str] = []
        if scenario is not None:
            file = charts.CHART / "ci" / f"{scenario}.yaml"
            allowed = yaml.safe_load(file.read_text()).get("podSecurity", {}).get("allow", [])
            options = ("--values", str(file), *options)
        return Rendered(charts.template(chart, *options, release=release), tuple(allowed))

    return render


@pytest.fixture(params=[file.stem for file in charts.SCENARIOS])
def scenario(request, rendered) -> Rendered:
    """Each scenario in turn."""
    return rendered(request.param)
