"""One engine of each kind, or four, with a judge that is a model: the same digests, and the same tables byte for byte."""

import pytest

from masters.data.manifests import read_manifest
from masters.data.tables import VERDICTS
from tests.stages.chaos import FOLDERS
from tests.stages.conftest import JUDGE, masters
from tests.stages.data import STAGES, begun

pytestmark = [
    pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.filterwarnings("default"),
]  # fmt: skip


def test_the_same_digests_and_the_same_bytes(finished, judged, tmp_path):
    four = begun(finished.run, tmp_path)
    pools = (f"resources.{pool}={{min_actors: 4, max_actors: 4}}" for pool in STAGES)
    options = [word for option in (f"storage={tmp_path}", JUDGE, *pools) for word in ("--set", option)]
    for stage, folder in zip(STAGES, FOLDERS, strict=True):
        masters(stage, finished.recipe, *options, seconds=900)
        assert read_manifest(judged, stage).digest == read_manifest(four, stage).digest
        names = judged.names(folder)
        assert names
        assert four.names(folder) == names
        assert all(judged.read(name) == four.read(name) for name in names)


def test_a_run_with_a_judge_that_is_a_model_comes_to_its_end(finished, judged):
    read = {}
    for run in (judged, finished.run):
        rows = run.read_tables(run.names("verdicts", ".parquet"), VERDICTS).to_pylist()
        read[run.uri] = {(row["author"], row["sample_id"], row["index"]): row["verdict"] for row in rows}
    verdicts, ruled = read.values()
    assert verdicts.keys() == ruled.keys()
    known = [key for key, verdict in verdicts.items() if verdict is not None]
    agreed = sum(verdicts[key] == ruled[key] for key in known) / len(known)
    print(f"{len(known)} of {len(verdicts)} responses got a verdict; the rule says the same of {100 * agreed:.1f} %")
    assert len(known) > 0.9 * len(verdicts)
    assert agreed > 0.8
    assert read_manifest(judged, "evaluate").status == "done"
    assert "models/tiny-judge" in judged.read("report.html").decode()
