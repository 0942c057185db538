"""Folders that engines would take for another model than the trainer does are refused, with what to do."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from masters.models.checkpoint import load_model, write_like
from masters.models.folder import check_experts, family_of, fingerprint, shapes
from masters.models.tiny_families import KINDS


@pytest.fixture
def copy(make_family, tmp_path):
    def make(kind, **options):
        shutil.copytree(make_family(kind, **options), tmp_path / kind)
        return tmp_path / kind

    return make


def configure(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def test_experts_as_save_pretrained_writes_them(copy):
    folder = copy("qwen3_vl_moe")
    check_experts(folder)
    tensors = load_file(folder / "model.safetensors")
    for name in [name for name in tensors if "experts" in name]:
        tensors[name] = tensors[name].transpose(1, 2).contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for look in (check_experts, lambda f: fingerprint(str(f), "NONE"), lambda f: load_model(f, torch.float32)):
        with pytest.raises(
            ValueError, match=r"is \[4, 64, 96\], where the hub has \[experts, in, out\], \[4, 96, 64\]"
        ):
            look(folder)


@pytest.mark.parametrize("width", [32, 64])
def test_square_experts_cannot_be_told_apart(copy, width):
    """Of gate_up_proj at half of the hidden size, of down_proj at the hidden size."""
    folder = copy("qwen3_vl_moe")
    configure(folder, lambda config: config["text_config"].update(moe_intermediate_size=width))
    tensors = load_file(folder / "model.safetensors")
    for name in [name for name in tensors if "experts" in name]:
        tensors[name] = torch.zeros(4, *((64, 2 * width) if "gate_up" in name else (width, 64)))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="64 x 64, so it cannot be told whether they are turned"):
        check_experts(folder)


@pytest.mark.parametrize("value", [False, None])
def test_routers_that_only_one_of_two_engines_would_normalise(copy, value):
    folder = copy("qwen3_vl_moe")
    configure(folder, lambda config: config["text_config"].update(norm_topk_prob=value))
    with pytest.raises(ValueError, match=rf"norm_topk_prob of config\.json is {value}"):
        check_experts(folder)


def test_the_layout_that_runs_code_of_the_hub(copy):
    folder = copy("internvl3")
    configure(folder, lambda config: config.update(model_type="internvl_chat"))
    with pytest.raises(ValueError, match=r"OpenGVLab's layout, .* -hf for InternVL3, in -HF for InternVL3\.5"):
        family_of(folder)


@pytest.mark.parametrize("told", [{}, {"tie_word_embeddings": True}])
def test_the_files_say_whether_a_head_is_tied(copy, told):
    """Whatever config.json says."""
    folder = copy("internvl3")

    def change(config):
        for part in (config, config["text_config"]):
            part.pop("tie_word_embeddings", None)
            part.update(told)

    configure(folder, change)
    model, head = (
        load_model(folder, torch.bfloat16),
        load_file(folder / "model.safetensors")["language_model.lm_head.weight"],
    )
    assert torch.equal(model.lm_head.weight, head)
    assert not torch.equal(model.lm_head.weight, model.get_input_embeddings().weight)


def test_a_head_that_repeats_the_embedding_stays_tied(copy):
    folder = copy("qwen2_5_vl", tied=True)
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    model = load_model(folder, torch.bfloat16)
    assert model.lm_head.weight is model.get_input_embeddings().weight


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_written_as_the_source_has_them(make_family, kind, tmp_path):
    """Whatever the names of that folder; here those of its own save_pretrained or of the hub."""
    folder = make_family(kind)
    parameters = {name: weight.detach() for name, weight in load_model(folder, torch.float32).named_parameters()}
    write_like(folder, parameters, tmp_path)
    one, two = (load_file(place / "model.safetensors") for place in (folder, tmp_path))
    assert shapes(tmp_path) == shapes(folder)
    assert all(torch.equal(one[name], two[name]) and one[name].dtype == two[name].dtype for name in one)


def test_names_as_other_trainers_save_them_stay_so_and_so_do_the_files(make_model, tmp_path):
    """Qwen2.5-VL by the names of its parameters, which transformers reads, too; in several files with an index."""
    source, base, target = make_model(), tmp_path / "base", tmp_path / "student"
    shutil.copytree(source, base)
    (base / "model.safetensors").unlink()
    family, tensors = family_of(source), load_file(source / "model.safetensors")
    named = sorted((family.parameter_name(name), tensor) for name, tensor in tensors.items())
    files = {"model-1.safetensors": dict(named[:30]), "model-2.safetensors": dict(named[30:])}
    for file, part in files.items():
        save_file(part, base / file)
    index = {"metadata": {}, "weight_map": {name: file for file, part in files.items() for name in part}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    parameters = {name: weight.detach() + 1 for name, weight in load_model(base, torch.float32).named_parameters()}
    write_like(base, parameters, target)
    assert shapes(target) == shapes(base) != shapes(source)
    assert {file.name for file in target.glob("*.safetensors")} == set(files)
    assert all(torch.equal(load_file(target / file)[n], w + 1) for file, part in files.items() for n, w in part.items())
    load_model(target, torch.float32)
