import pytest

from masters.engines import driver
from masters.engines.masked_vllm import MaskedEngine

REFUSED = [
    (12080, "13.0", r"runs CUDA 12\.8, and torch was built for CUDA 13\.0\. Install driver 580 or newer"),
    (11040, "12.9", r"runs CUDA 11\.4, and torch was built for CUDA 12\.9\. Install driver 525 or newer"),
    (13020, "14.1", r"runs CUDA 13\.2, and torch was built for CUDA 14\.1\. Install a newer driver"),
    (0, "13.0", r"no NVIDIA driver is found, and torch was built for CUDA 13\.0\. Install driver 580"),
    (13000, None, r"torch was built without CUDA\. Use the gpu image, or set gpus_per_engine: 0"),
]


@pytest.mark.parametrize(("found", "built", "message"), REFUSED)
def test_a_driver_that_does_not_run_torch_is_refused(found, built, message):
    with pytest.raises(RuntimeError, match=message):
        driver.check(found, built)


@pytest.mark.parametrize(("found", "built"), [(13000, "13.0"), (13000, "13.2"), (14000, "13.0"), (12020, "12.9")])
def test_a_driver_of_the_same_release_or_a_newer_one_will_do(found, built):
    driver.check(found, built)


def test_an_engine_on_gpus_looks_at_the_driver_before_anything_else(monkeypatch):
    monkeypatch.setattr(driver, "newest_cuda", lambda: 12080)
    monkeypatch.setattr("torch.version.cuda", "13.0")
    with pytest.raises(RuntimeError, match="driver 580"):
        MaskedEngine(None, None, None, gpus=0.5)


def test_masks_of_quantised_weights_are_refused(tmp_path):
    with pytest.raises(ValueError, match="quantization mxfp8: masks need the weights of the checkpoint"):
        MaskedEngine(None, None, None, thresholds=tmp_path, quantization="mxfp8")
