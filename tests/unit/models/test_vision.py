"""The image tower as it is trained against the library's own: the same features, gradients and names."""

import copy

import pytest
import torch
from torch import nn

from masters.models import varlen, vision
from masters.models.tiny import SIZES, TinySize, build_model, build_tokenizer
from tests.unit.models import flash_stand_in

GRIDS = {  # height and width of each image in patches; a window is 8 x 8
    "one window": [(8, 8)],
    "equal windows": [(16, 24)],
    "windows of many sizes": [(10, 14), (8, 8), (4, 22), (2, 2)],
    "images of one size": [(16, 12)] * 3,
}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-6}  # norms and rotations run in fp32 inside transformers


def tower(layers=3):
    """A model whose tower has windows in all layers but the last."""
    size = SIZES["student"]
    size = TinySize(size.hidden, 1, size.vision_hidden, layers, size.init)
    model = build_model(size, build_tokenizer(), 7)
    model.model.visual.fullatt_block_indexes, model.model.visual.window_size = [layers - 1], 8 * 14
    return model


@pytest.fixture(scope="module")
def pair():
    """(the library's model, ours) with the same weights."""
    plain = tower()
    ours = copy.deepcopy(plain)
    vision.attach(ours)
    return plain, ours


def images(grids, dtype=torch.float32):
    grid = torch.tensor([[1, *sides] for sides in grids])
    draw = torch.Generator().manual_seed(1)
    return torch.randn(int(grid.prod(1).sum()), 3 * 2 * 14 * 14, generator=draw).to(dtype), grid


def features(model, pixels, grid):
    """Features, and gradients of some weighted sum of them at every weight of the tower."""
    found = model.model.get_image_features(pixels, grid, return_dict=True)
    found = torch.cat([found.last_hidden_state.flatten(), *(part.flatten() for part in found.pooler_output)])
    model.zero_grad()
    (found * torch.linspace(-1, 1, len(found), dtype=found.dtype)).sum().backward()
    return found.detach(), {name: p.grad.clone() for name, p in model.model.visual.named_parameters()}


@pytest.mark.parametrize("unequal", [False, True], ids=["by length", "all at once"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("grids", GRIDS.values(), ids=GRIDS)
def test_features_and_gradients_are_the_library_s(pair, grids, dtype, unequal, monkeypatch):
    if unequal:
        flash_stand_in.put(monkeypatch)
        monkeypatch.setattr(vision, "fused", lambda q: True)
    plain, ours = (model.to(dtype) for model in pair)
    pixels, grid = images(grids, dtype)
    (found, gradients), (expected, wanted) = features(ours, pixels, grid), features(plain, pixels, grid)
    assert float((found - expected).abs().max() / expected.abs().max()) < TOLERANCE[dtype]
    for name, gradient in wanted.items():
        scale = gradient.abs().max()
        assert float((gradients[name] - gradient).abs().max() / scale) < TOLERANCE[dtype], name


def test_it_is_compared_with_windows_that_matter(pair):
    """Were all windows one, features would be others: the comparison is one that can fail."""
    plain, _ = (model.float() for model in pair)
    pixels, grid = images(GRIDS["windows of many sizes"])
    expected, _ = features(plain, pixels, grid)
    whole = copy.deepcopy(plain)
    whole.model.visual.fullatt_block_indexes = [0, 1, 2]
    assert float((features(whole, pixels, grid)[0] - expected).abs().max() / expected.abs().max()) > 1e-2


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("unequal", [False, True], ids=["by length", "all at once"])
def test_no_layer_waits_for_the_device(monkeypatch, checkpointing, unequal):
    """As many tensors are read back with six layers as with two, and attention is called once per layer."""
    read, calls = [], []
    if unequal:
        monkeypatch.setattr(vision, "fused", lambda q: True)
        monkeypatch.setattr(varlen, "_flash_forward", lambda q, *_, scale: (q, q.new_zeros(q.shape[1::-1])))
        monkeypatch.setattr(varlen, "_flash_backward", lambda out, q, k, v, *_, scale: (q, k, v))

    def counting(method):
        original = getattr(torch.Tensor, method)
        monkeypatch.setattr(torch.Tensor, method, lambda self: read.append(method) or original(self))

    original = vision.attend
    monkeypatch.setattr(vision, "attend", lambda *given: calls.append(len(given[3][0])) or original(*given))
    counting("tolist")
    counting("item")
    found = {}
    for layers in (2, 6):
        model = tower(layers).train()
        vision.attach(model)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        read.clear()
        calls.clear()
        features(model, *images([(16, 24), (16, 8)]))
        found[layers] = len(read)
        assert calls[: layers - 1] == [1] * (layers - 1)  # all windows of a layer at once
        assert len(calls) == layers * (2 if checkpointing else 1)
    assert found[2] == found[6]


def test_names_and_shapes_of_weights_stay(pair):
    plain, ours = pair
    shapes = [{name: tuple(weight.shape) for name, weight in model.state_dict().items()} for model in (plain, ours)]
    assert shapes[0] == shapes[1]
    assert len(shapes[1]["model.visual.patch_embed.proj.weight"]) == 5
    assert ours.config.vision_config._attn_implementation == plain.config.vision_config._attn_implementation


def test_only_a_conv3d_over_whole_patches_becomes_a_matrix_product(monkeypatch, pair):
    """Were it still a convolution, the cuDNN of the day would compute it."""
    _, ours = (model.float() for model in pair)
    patch = ours.model.visual.patch_embed
    monkeypatch.setattr(nn.Conv3d, "forward", lambda *_: pytest.fail("convolved"))
    assert patch(images([(4, 4)])[0]).shape == (16, SIZES["student"].vision_hidden)
    monkeypatch.undo()
    large = torch.randn(1, 3, 4, 28, 28)
    assert patch.proj(large).shape == (1, SIZES["student"].vision_hidden, 2, 2, 2)
