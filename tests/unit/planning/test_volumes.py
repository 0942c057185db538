"""What the values say of volumes and disks: as the chart reads them."""

import pytest
import yaml

from masters.config.placement import CHART, read_values
from masters.planning.volumes import cache_kind, quantity, sizes_of_volumes

GIB = 2**30
CLAIM, CACHE, TRAIN = "storage.pvc.size", "modelCache.sizeGi", "workerGroups.train.scratchGi"
SAID = {  # values -> GiB by field; None: says nothing of it
    "": {CLAIM: 200, CACHE: 200, TRAIN: 150},
    "storage: {pvc: {size: 1Ti}}": {CLAIM: 1024},
    "storage: {pvc: {existingClaim: mine}}": {CLAIM: None, CACHE: 200},
    "storage: {kind: s3}": {CLAIM: None, CACHE: 200},
    "modelCache: {sizeGi: 0.5}": {CACHE: 0.5},
    "modelCache: {kind: pvc, existingClaim: models}": {CACHE: None},
    "modelCache: {kind: hostPath, hostPath: /m}": {CACHE: None},
    "modelCache: {kind: emptyDir, sizeGi: 70}": {CACHE: 70, TRAIN: 150},
    "workerGroups: {train: {scratchGi: 10}}": {TRAIN: 10},
    "workerGroups: {train: {requests: {ephemeral-storage: 100Gi}}}": {TRAIN: 36},  # beside 64 of /dev/shm
    "modelCache: {kind: emptyDir, sizeGi: 20}\nworkerGroups: {train: {requests: {ephemeral-storage: 100Gi}}}": {TRAIN: 16},
    "workerGroups: {train: {requests: {ephemeral-storage: 1G}}}": {TRAIN: 0},
    "workerGroups: {train: {enabled: false}}": {TRAIN: None},
}  # fmt: skip


@pytest.mark.parametrize("text", SAID)
def test_sizes_by_field(tmp_path, text):
    (tmp_path / "values.yaml").write_text(text)
    found = sizes_of_volumes(read_values([tmp_path / "values.yaml"]))
    assert {field: found[field] / GIB if field in found else None for field in SAID[text]} == SAID[text]


@pytest.mark.parametrize("file", sorted((CHART / "ci").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_scenario_can_be_read(file):
    values = read_values([file])
    assert sizes_of_volumes(values)
    written = (yaml.safe_load(file.read_text()).get("modelCache") or {}).get("kind", "auto")
    assert cache_kind(values) == written or written == "auto"


@pytest.mark.parametrize(
    ("size", "bytes_"),
    [("500Gi", 500 * GIB), ("1Ti", 1024 * GIB), ("2T", 2e12), ("1.5Gi", 1.5 * GIB), (7, 7), ("512Mi", GIB / 2)],
)
def test_quantities(size, bytes_):
    assert quantity(size, "f") == bytes_


@pytest.mark.parametrize("size", ["many", "5 Gi", "5gi", "-1Gi", "", None, True])
def test_what_is_no_quantity_names_its_field(size):
    with pytest.raises(ValueError, match=r"storage\.pvc\.size = .*: is no size of a volume\. Write 500Gi or 1Ti\."):
        quantity(size, "storage.pvc.size")
