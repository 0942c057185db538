import json
import shutil

import pytest
import torch
from huggingface_hub import ResolvedRevision
from safetensors.torch import load_file, save_file

from masters.models.checkpoint import load_model
from masters.models.folder import family_of, fingerprint, parameter_count, pinned, resolve, weight_files


@pytest.fixture
def folder(make_model, tmp_path):
    return shutil.copytree(make_model(), tmp_path / "model")


def change(folder, name, edit):
    tensors = load_file(folder / "model.safetensors")
    edit(tensors[name] if name else tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def test_the_fingerprint_holds_for_a_copy_and_sees_weights_and_config(folder, make_model):
    original = fingerprint(str(make_model()), "HF_TOKEN")
    assert fingerprint(str(folder), "HF_TOKEN") == original
    change(folder, "model.norm.weight", lambda w: w.add_(1))
    assert fingerprint(str(folder), "HF_TOKEN") != original
    shutil.copy(make_model() / "model.safetensors", folder)
    assert fingerprint(str(folder), "HF_TOKEN") == original
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    assert fingerprint(str(folder), "HF_TOKEN") != original


@pytest.mark.parametrize(
    "name",
    [
        "preprocessor_config.json",
        "tokenizer_config.json",
        "generation_config.json",
        "chat_template.jinja",
        "merges.txt",
        "spiece.model",
    ],
)
def test_the_fingerprint_sees_what_processor_tokenizer_and_engine_read(folder, name):
    original = fingerprint(str(folder), "HF_TOKEN")
    with open(folder / name, "a") as stream:
        stream.write(" ")
    assert fingerprint(str(folder), "HF_TOKEN") != original


@pytest.mark.parametrize("name", ["README.md", "training.json"])
def test_the_fingerprint_leaves_out_what_no_one_reads(folder, name):
    original = fingerprint(str(folder), "HF_TOKEN")
    (folder / name).write_text("{}")
    assert fingerprint(str(folder), "HF_TOKEN") == original


def test_a_model_of_the_hub_is_its_commit(tmp_path, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    root = tmp_path / "hub" / "models--owner--model"
    (root / "snapshots" / commit).mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(commit)
    (root / "snapshots" / commit / "config.json").write_text("{}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert resolve("owner/model", "HF_TOKEN", weights=False).name == commit
    assert fingerprint("owner/model", "HF_TOKEN") == commit


@pytest.mark.parametrize("path", ["/nowhere/at/all", "./nowhere", "name"])
def test_neither_a_folder_nor_a_name(path):
    with pytest.raises(ValueError, match="no such folder, and not a name on the hub"):
        resolve(path, "HF_TOKEN")


def test_a_model_that_the_hub_does_not_give(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        ValueError, match=r"owner/none: no such folder here, and the hub did not give it .* Is MY_TOKEN set\?"
    ):
        resolve("owner/none", "MY_TOKEN")


def test_folders_that_are_no_models(tmp_path, folder):
    with pytest.raises(ValueError, match=r"has no config\.json"):
        family_of(tmp_path)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ValueError, match=r"model_type llama is not a family that Masters knows: qwen2_5_vl"):
        family_of(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"holds no \*\.safetensors file"):
        weight_files(folder)


def test_an_incomplete_download(folder):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-2.safetensors"}}))
    with pytest.raises(ValueError, match=r"model-2\.safetensors is named in the index and not there"):
        weight_files(folder)


def test_parameters_are_counted_from_headers(folder):
    assert parameter_count(folder) == sum(p.numel() for p in load_model(folder, torch.float32).parameters())


def test_a_checkpoint_that_lacks_a_weight_is_refused(folder):
    change(folder, None, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(ValueError, match=r"missing keys, for example .*layers\.1\.mlp\.up_proj\.weight"):
        load_model(folder, torch.float32)


def test_a_name_on_the_hub_is_pinned_to_its_commit_and_a_folder_is_not(monkeypatch, tmp_path):
    commit, asked = "c0ffee" + "0" * 34, []

    def answer(api, name, *, revision):
        asked.append((name, revision))
        return ResolvedRevision(initial=revision, resolved=commit, repo_id=name, repo_type="model")

    monkeypatch.setattr("huggingface_hub.HfApi.resolve_revision", answer)
    for path in ("owner/model", "owner/model@main", f"owner/model@{commit}"):
        assert pinned(path, "HF_TOKEN") == f"owner/model@{commit}"
    assert pinned(str(tmp_path), "HF_TOKEN") == str(tmp_path)
    assert asked == [("owner/model", None), ("owner/model", "main")]
