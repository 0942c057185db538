import json
from decimal import Decimal

import pytest
import torch
from safetensors.torch import load_file

from masters.families.qwen2_5_vl import QWEN2_5_VL
from masters.models.checkpoint import load_model
from masters.models.thresholds import ThresholdsFile, export_masked, file_thresholds, mask_tensor

RATIOS = [Decimal(r) for r in ("0.5", "0.2", "0")]


def make_file(folder, scope="linear"):
    tensors = file_thresholds(folder, "model.safetensors", QWEN2_5_VL, scope, RATIOS)
    return ThresholdsFile("qwen2_5_vl", scope, "print", ("0.50", "0.20", "0.00"), tensors)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("ratio", ["0.50", "0.20", "0.00"])
def test_an_exported_checkpoint_is_masked_matrix_by_matrix_and_loads(make_model, tmp_path, dtype, ratio):
    folder = make_model("test", 3, dtype)
    file = ThresholdsFile.from_json(json.loads(json.dumps(make_file(folder).to_json())))
    export_masked(folder, file, ratio, tmp_path / "out")
    before, after = load_file(folder / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    assert before.keys() == after.keys()
    for name, weight in before.items():
        if name not in file.tensors:
            assert torch.equal(weight, after[name])
            continue
        magnitudes = weight.double().abs().flatten().sort().values
        k = int(Decimal(ratio) * weight.numel())
        expected = torch.where(weight.double().abs() < magnitudes[k], torch.zeros_like(weight), weight)
        assert torch.equal(after[name], expected), name
        assert after[name].dtype == dtype
    load_model(tmp_path / "out", dtype)


def test_scopes(make_model):
    names = {
        scope: set(make_file(make_model("test", 3), scope).tensors) for scope in ("linear", "language_model", "all")
    }
    matrices = {n for n, w in load_file(make_model("test", 3) / "model.safetensors").items() if w.dim() >= 2}
    assert names["all"] == matrices
    assert names["all"] - names["linear"] == {
        "lm_head.weight",
        "model.embed_tokens.weight",
        "visual.patch_embed.proj.weight",
    }
    assert all(n.startswith("visual.") for n in names["linear"] - names["language_model"])
    assert not any(n.startswith("visual.") for n in names["language_model"])


def test_thresholds_of_another_checkpoint_are_found_out(make_model):
    file = make_file(make_model("test", 3))
    name = "model.layers.0.mlp.up_proj.weight"
    other = load_file(make_model("test", 4) / "model.safetensors")[name]
    with pytest.raises(ValueError, match="thresholds are of another checkpoint"):
        mask_tensor(name, other, file, "0.20")
    with pytest.raises(ValueError, match=r"weights in torch\.float32; thresholds are of .* in bfloat16"):
        mask_tensor(name, other.float(), file, "0.20")
    with pytest.raises(ValueError, match="thresholds are of"):
        mask_tensor(name, other[:2], file, "0.20")


def test_a_ratio_that_was_not_computed(make_model):
    with pytest.raises(ValueError, match=r"ratio 0\.30: thresholds were made for 0\.50, 0\.20, 0\.00"):
        make_file(make_model("test", 3)).check_ratio("0.30")


def test_a_broken_weight_is_named(make_model, tmp_path):
    import shutil

    from safetensors.torch import save_file

    folder = shutil.copytree(make_model("test", 3), tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"model\.layers\.1\.mlp\.up_proj\.weight: holds NaN or infinity"):
        make_file(folder)
