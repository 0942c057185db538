"""The arithmetic of a plan, each number computed by hand."""

import json
import math
import re

import pytest

from masters.config.resources import EngineResources
from masters.config.train import TrainConfig
from masters.families import FAMILIES
from masters.families.released import RELEASED, released
from masters.families.sizes import (
    NO_TOWER,
    Decoder,
    ModelSize,
    Tower,
    intern_tower,
    qwen2_5_tower,
    qwen3_tower,
    size_of,
)
from masters.models.folder import parameter_count
from masters.planning import throughputs as pace
from masters.planning.engines import Asked, engine_seconds, judged
from masters.planning.flops import GroupShape, decoding, forward, group_flops, objective, seeing
from masters.planning.memory import (
    checkpoint_bytes,
    decoder_activation,
    engine_memory,
    learning_parameters,
    train_memory,
)
from masters.planning.places import Place
from masters.planning.plan import wall_seconds
from masters.planning.workload import Cost
from masters.training import space

Q3, Q7, Q72 = (released(f"Qwen/Qwen2.5-VL-{size}-Instruct").size for size in ("3B", "7B", "72B"))
SMALL = ModelSize(
    Decoder(hidden=8, layers=3, heads=2, kv_heads=1, head_size=4, intermediate=16, vocabulary=100, tied=False),
    Tower(
        hidden=4,
        layers=2,
        intermediate=8,
        matrices=2,
        full_layers=1,
        window=4,
        patches=4,
        patch_pixels=14,
        embedding=20,
        projector=30,
        vectors=36,
    ),
)
SPARSE = ModelSize(
    Decoder(8, 3, 2, 1, 4, 5, 100, tied=False, query_key_norm=True, experts=6, active_experts=2), NO_TOWER
)
WIDE = ModelSize(Decoder(16, 3, 2, 1, 4, 16, 100, tied=True), NO_TOWER)
GROUP = GroupShape(prompt=10, image=5, responses=2, length=3)
ALONE = GroupShape(prompt=10, image=5, responses=2, length=3, packed=False)
KINDS = ("qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "internvl3", "internvl3_5", "internvl3_5_moe")
GIB = 2**30

CASES = {
    # sizes: hidden x head_size x (2 heads + 2 kv) + 3 x hidden x intermediate
    "products of a layer": (lambda: SMALL.decoder.layer_matrices, 8 * 4 * 6 + 3 * 8 * 16),
    "a layer with its norms": (lambda: SMALL.decoder.layer, 576 + 16),
    "a head": (lambda: SMALL.decoder.head, 800),
    "a decoder, embedding and head": (lambda: SMALL.decoder.parameters, 3 * 592 + 2 * 800 + 8),
    "a tied decoder": (lambda: WIDE.decoder.parameters, 3 * (16 * 4 * 6 + 3 * 16 * 16 + 32) + 1600 + 16),
    "a layer of a tower": (lambda: SMALL.tower.layer_matrices, 4 * 16 + 2 * 4 * 8),
    "a tower": (lambda: SMALL.tower.parameters, 2 * (128 + (16 + 8 + 4) + 8) + 50),
    "keys and values of a token": (lambda: SMALL.decoder.kv_bytes, 2 * 2 * 3 * 4),
    "keys and values of a token, 72B": (lambda: Q72.decoder.kv_bytes, 327_680),
    "a layer of 7B": (lambda: Q7.decoder.layer, 233_057_792),
    "the tower of 7B": (lambda: qwen2_5_tower(3584, {}).parameters, 676_550_144),
    "pixels of an image token": (lambda: Q7.tower.token_pixels, 28 * 28),
    # experts: a router of 8 x 6, and 6 MLPs of 3 x 8 x 5, of which a token takes 2
    "products of a layer with experts": (lambda: SPARSE.decoder.layer_matrices, 192 + 48 + 2 * 120),
    "a layer with experts": (lambda: SPARSE.decoder.layer, 192 + 48 + 6 * 120 + 16 + 8),
    "experts that one token leaves": (lambda: SPARSE.decoder.asleep(1), 3 * 4 * 120),
    "experts that two tokens leave": (lambda: SPARSE.decoder.asleep(2), 3 * 6 * 120 * (4 / 6) ** 2),
    "nothing is left of one MLP": (lambda: SMALL.decoder.asleep(1), 0),
    "language model with experts": (lambda: decoding(SPARSE, 16, 119), 2 * 3 * 480 * 16 + 4 * 3 * 8 * 119),
    "what a layer with experts keeps": (
        lambda: decoder_activation(SPARSE.decoder, 2),
        2 * (6 * 8 + 2 * 4 + 2 * 4 * 5 + 2 * 2 * 8) + 12 * 8,
    ),
    # towers: matrices 12 x 1152^2 ..., positions, one merger and three deeper ones
    "the tower of Qwen3-VL-8B": (
        lambda: qwen3_tower(4096, {}).parameters,
        27 * (4 * 1152**2 + 2 * 1152 * 4304 + 4 * 1152 + 4304 + 1152 + 4 * 1152)
        + (3 * 2 * 256 + 1 + 2304) * 1152
        + 4 * (4608 * 4608 + 4608 + 4608 * 4096 + 4096)
        + 2 * 1152
        + 3 * 2 * 4608,
    ),
    "the tower of 300 M": (
        lambda: intern_tower(3584, {"attention_bias": True}).parameters - intern_tower(3584, {}).projector,
        24 * (12 * 1024**2 + (4 + 4 + 2) * 1024 + 4096 + 1024) + (588 + 1 + 1 + 1025) * 1024,
    ),
    "tokens of a tile": (lambda: intern_tower(8, {}).window // intern_tower(8, {}).patches, 256),
    "pixels of a token of a tile": (lambda: 256 * intern_tower(8, {}).token_pixels, 448 * 448),
    # a group: 10 + 2 x 3 tokens in one row, or 2 x 13
    "tokens, packed": (lambda: GROUP.tokens, 16),
    "tokens, a row each": (lambda: ALONE.tokens, 26),
    "pairs, packed": (lambda: GROUP.pairs, 50 + 2 * (30 + 4.5)),
    "pairs, a row each": (lambda: ALONE.pairs, 2 * (50 + 30 + 4.5)),
    "language model": (lambda: decoding(SMALL, 16, 119), 2 * 3 * 576 * 16 + 4 * 3 * 8 * 119),
    # 5 tokens are 20 patches: 2 x ((2 x 128 + 20) x 20 + 30 x 5) + 4 x 4 x (20 x 20 + 20 x 4)
    "tower": (lambda: seeing(SMALL.tower, 5), 2 * (276 * 20 + 30 * 5) + 16 * 480),
    "forward, packed": (lambda: forward(SMALL, GROUP), 66_720 + 19_020),
    "forward, a row each": (lambda: forward(SMALL, ALONE), 2 * 3 * 576 * 26 + 96 * 169 + 2 * 19_020),
    # one unit is 2 x 6 tokens x 100 words: student 3 x 8, teacher 16, reference 8, again 8 + 16
    "objective": (lambda: objective(SMALL, WIDE, GROUP, reference=True, twice=False), 1200 * 48),
    "objective in pieces": (lambda: objective(SMALL, WIDE, GROUP, reference=True, twice=True), 1200 * 72),
    "student, recomputed": (lambda: flops(checkpointing=True).student, 4 * 85_740),
    "student": (lambda: flops(checkpointing=False).student, 3 * 85_740),
    "reference": (lambda: flops(checkpointing=True).reference, 85_740),
    # bf16: 2 + 4 + 12 bytes of the student, 2 of the others: 7B from 72B on 16
    "static": (
        lambda: sum(trained(16).static.values()),
        (18 * 8_292_166_656 + 2 * 73_410_777_344 + 2 * 8_292_166_656) / 16,
    ),
    "static in fp32": (
        lambda: sum(trained(16, precision="fp32").static.values()),
        (16 * 8_292_166_656 + 4 * 73_410_777_344 + 4 * 8_292_166_656) / 16,
    ),
    "all experts of a teacher": (
        lambda: train_memory(TrainConfig(), Q7, [released("Qwen/Qwen3-VL-30B-A3B-Instruct").size], GROUP, 16, 8).static[
            "teacher"
        ],
        2 * 31_070_754_032 / 16,
    ),
    "teacher of a node": (lambda: trained(16, teacher_sharding="node").static["teacher"], 2 * 73_410_777_344 / 8),
    "teacher offloaded": (lambda: trained(16, offload_teacher=True).static["teacher"], 0),
    "Adam offloaded": (lambda: trained(16, offload_optimizer=True).static["Adam"], 0),
    "CPU memory": (lambda: sum(trained(16, offload_teacher=True).host.values()), 2 * 2 * 73_410_777_344 / 16),
    "no reference": (lambda: trained(16, kl_weight=0).static["reference"], 0),
    "a tower that is frozen": (
        lambda: learning_parameters(Q7, TrainConfig(tower_lr_factor=0)),
        8_292_166_656 - 32 * 19_702_200 - 1176 * 1280,
    ),
    "a checkpoint of 8.29 B": (lambda: checkpoint_bytes(Q7, TrainConfig()), 99_505_999_872),
    # 3,100 tokens: (28 x 3584 + 32 x 4 x 1400 / 3100 x 1280 ...) kept in bf16, and the largest layer computed again
    "activations, recomputed": (
        lambda: trained(16).learning["activations"],
        2 * (28 * 3100 * 3584 + 32 * 5600 * 1280) + 3100 * (2 * (6 * 3584 + 2 * 512 + 4 * 18_944) + 12 * 3584),
    ),
    # engines: 2 bytes / GPUs; keys and values are split over as many GPUs as there are heads of them
    "weights of an engine": (lambda: engine_memory(Q72, 4, 79.1, 0.9, 8192).weights, 73_410_777_344 / 2),
    "its longest sequence": (lambda: engine_memory(Q72, 4, 79.1, 0.9, 8192).longest, 8192 * 327_680 / 4),
    "what is left": (lambda: engine_memory(Q72, 4, 79.1, 0.9, 8192).room, (0.9 * 79.1 - 4) * GIB - 36_705_388_672),
    "heads of 3B are two": (lambda: engine_memory(Q3, 4, 79.1, 0.9, 1000).longest, 1000 * 36_864 / 2),
    "tokens that are asked": (lambda: Asked(10, 4, 100, 90, 20, 8).tokens, 10 * (100 + 80)),
    "two prompts of a judge": (lambda: judged(10, 200, 8, twice=True).tokens, 10 * (310 + 225 + 200 + 100)),
    "one prompt of a judge": (lambda: judged(10, 200, 8, twice=False).tokens, 10 * (310 + 200 + 100)),
    "balance at 8 groups": (lambda: pace.balance(8), 0.91),
    "balance between": (lambda: pace.balance(3), (0.67 + 0.82) / 2),
    "balance at the least": (lambda: pace.balance(0.5), 0.49),
    "balance at the most": (lambda: pace.balance(1000), 0.95),
    "pods": (lambda: Place("g", pace.CPU, 9, 1, 1, per_pod=4, room=16).pods, 3),
}


def flops(**options):
    return group_flops(SMALL, WIDE, GROUP, reference=True, twice=False, **options)


def trained(workers, **fields):
    shape = GroupShape(prompt=1500, image=1400, responses=8, length=200)
    return train_memory(TrainConfig(**fields), Q7, [Q72], shape, workers, 8)


@pytest.mark.parametrize("what", CASES)
def test_by_hand(what):
    compute, expected = CASES[what]
    assert compute() == pytest.approx(expected, rel=1e-9)


def pool(group, start, work, actors, gpus=1, room=8):
    kind = pace.ACCELERATORS["H100"] if gpus else pace.CPU
    return Cost("generate", "", Place(group, kind, actors, gpus, 1, per_pod=8, room=room), 1, start=start, work=work)


@pytest.mark.parametrize(
    ("pools", "seconds"),
    [
        ([pool("a", 10, 90, 4), pool("a", 10, 50, 4)], 100),  # eight of eight: beside each other
        ([pool("a", 10, 90, 8), pool("a", 10, 50, 8)], 160),  # one behind the other
        ([pool("a", 10, 90, 8), pool("b", 10, 50, 8)], 100),  # other groups
        ([pool("a", 10, 90, 6), pool("a", 10, 50, 4)], 105),  # as many as there is room for: 75 + 30
        (
            [pool("a", 10, 90, 2, gpus=0, room=2), pool("a", 12, 50, 2, gpus=0, room=2)],
            152,
        ),  # engines on CPUs start once
    ],
)
def test_pools_run_beside_each_other_where_there_is_room(pools, seconds):
    assert wall_seconds(pools) == pytest.approx(seconds)


def test_there_are_enough():
    assert len(CASES) >= 25


@pytest.mark.parametrize("name", RELEASED)
def test_released_models_have_as_many_weights_as_their_pages_say(name):
    """Exactly, or as they round: a tower or a head that is not theirs would show."""
    model = RELEASED[name]
    found = model.size.parameters
    assert found == model.parameters or not model.parameters
    assert found / 1e9 == pytest.approx(model.billions, abs=0.051)
    assert model.family in FAMILIES
    assert model.licence
    assert "verified" in model.source
    assert released(f"{model.name}@main") is model


def test_the_names_of_models_say_how_large_they_are():
    """Nearly; of these, not even that: heads that are not tied, and towers, are not counted in names."""
    apart = {}
    for name, model in RELEASED.items():
        told = float(re.search(r"-(\d+)b", name)[1])
        if abs(model.size.parameters / 1e9 / told - 1) > 0.1:
            apart[model.name.partition("/")[2]] = model.billions
    assert apart == {
        "Qwen2.5-VL-3B-Instruct": 3.8, "Qwen2.5-VL-7B-Instruct": 8.3, "Qwen3-VL-4B-Instruct": 4.4,
        "InternVL3_5-2B-HF": 2.3, "InternVL3_5-4B-HF": 4.7,
    }  # fmt: skip


def test_the_layout_that_runs_code_is_refused_with_the_name_of_the_other():
    for name, other in (
        ("OpenGVLab/InternVL3-8B", "InternVL3-8B-hf"),
        ("OpenGVLab/InternVL3_5-8B", "InternVL3_5-8B-HF"),
    ):
        with pytest.raises(ValueError, match=f"Use the Hugging Face layout: OpenGVLab/{other}"):
            released(name)


def test_decoding_waits_for_memory_and_prefill_for_arithmetic():
    """A 72B on 4 A100: 128 of 256 sequences at a time."""
    kind = pace.ACCELERATORS["A100-80G"]
    place = Place("g", kind, 1, 4, 1, per_pod=1, room=1)
    resources = EngineResources(max_num_seqs=32)
    prompts, answers = Asked(1000, 1, 1000, 0, 0, 256), Asked(1000, 4, 0, 0, 100, 256)
    prefill, flops_of_prefill = engine_seconds(Q72, place, prompts, resources, 2048)
    assert prefill == pytest.approx(flops_of_prefill / (4 * 312e12 * 0.45))
    decode, _ = engine_seconds(Q72, place, answers, resources, 2048)
    read = (2 * Q72.parameters + 32 * 50 * 327_680) / (4 * 2039e9 * 0.7)
    assert decode == pytest.approx(400_000 / (32 * 0.6) * (0.004 + read))


@pytest.mark.parametrize(
    ("sequences", "read"),
    [
        (1, 31_070_754_032 - 48 * 120 * 3 * 2048 * 768),
        (32, 31_070_754_032 - 48 * 128 * 3 * 2048 * 768 * (15 / 16) ** 32),
    ],
)
def test_a_step_reads_the_experts_that_its_sequences_take(sequences, read):
    """8 of 128 each: one sequence leaves 120 of them in memory, 32 sequences leave an eighth of all."""
    size, kind = released("Qwen/Qwen3-VL-30B-A3B-Instruct").size, pace.ACCELERATORS["A100-80G"]
    place, asked = Place("g", kind, 1, 2, 1, per_pod=1, room=1), Asked(1000, 4, 0, 0, 100, 256)
    decode, _ = engine_seconds(size, place, asked, EngineResources(max_num_seqs=sequences), 2048)
    cache = sequences * 50 * 4 * 48 * 4 * 128
    step = 0.004 + (2 * read + cache) / (2 * 2039e9 * 0.7)
    assert decode == pytest.approx(400_000 / (sequences * 0.6) * step)
    assert engine_memory(size, 2, 79.1, 0.9, 2048).weights == 31_070_754_032  # all of them lie there


def test_a_folder_is_as_large_as_its_files(trained):
    _equal_to_files(trained[0])


@pytest.mark.parametrize("options", [{}, {"tied": True}, {"size": "teacher"}], ids=lambda o: "-".join(o) or "student")
@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_every_family_is_as_large_as_its_files(make_family, kind, options):
    _equal_to_files(make_family(kind, **options))


def _equal_to_files(folder):
    """Weights by the config.json alone; and those of checkpoints, in which tower or projector may be frozen."""
    written = json.loads((folder / "config.json").read_text())
    computed, counted = size_of(written), parameter_count(folder)
    assert computed.parameters == counted == size_of(written, counted).parameters
    for train in (TrainConfig(), TrainConfig(tower_lr_factor=0), TrainConfig(projector_lr_factor=0)):
        assert checkpoint_bytes(computed, train) == space.checkpoint_bytes(folder, train)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "llava", "vision_config": {}}, "model_type llava: its size is not known"),
        ({"model_type": "qwen2", "hidden_size": 8}, "lacks num_hidden_layers"),
        (
            {"model_type": "qwen3_moe", "num_experts": 4, "mlp_only_layers": [0]},
            "some layers have experts and some not",
        ),
        (
            {"model_type": "qwen3_moe", "num_experts": 4, "decoder_sparse_step": 2},
            "some layers have experts and some not",
        ),
    ],
)
def test_a_size_that_is_not_known_is_said(config, message):
    with pytest.raises(ValueError, match=message):
        size_of(config)


def test_a_model_without_a_tower_may_judge():
    config = {
        "model_type": "llama", "hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "head_dim": 4,
        "num_key_value_heads": 1, "intermediate_size": 16, "vocab_size": 100,
    }  # fmt: skip
    assert size_of(config).parameters == SMALL.decoder.parameters
    assert math.isclose(forward(size_of(config), GROUP), 66_720)
