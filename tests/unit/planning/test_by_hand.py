"""The arithmetic of a plan, each number computed by hand."""

import math

import pytest

from masters.config.resources import EngineResources
from masters.config.train import TrainConfig
from masters.families.released import RELEASED, released
from masters.families.sizes import NO_TOWER, Decoder, ModelSize, Tower, qwen_tower, size_of
from masters.planning import throughputs as pace
from masters.planning.engines import Asked, engine_seconds, judged
from masters.planning.flops import GroupShape, decoding, forward, group_flops, objective, seeing
from masters.planning.memory import checkpoint_bytes, engine_memory, learning_parameters, train_memory
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
    ),
)
WIDE = ModelSize(Decoder(16, 3, 2, 1, 4, 16, 100, tied=True), NO_TOWER)
GROUP = GroupShape(prompt=10, image=5, responses=2, length=3)
ALONE = GroupShape(prompt=10, image=5, responses=2, length=3, packed=False)
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
    "the tower of 7B": (lambda: qwen_tower(3584, 3420).parameters, 676_550_144),
    "pixels of an image token": (lambda: Q7.tower.token_pixels, 28 * 28),
    # a group: 10 + 2 x 3 tokens in one row, or 2 x 13
    "tokens, packed": (lambda: GROUP.tokens, 16),
    "tokens, a row each": (lambda: ALONE.tokens, 26),
    "pairs, packed": (lambda: GROUP.pairs, 50 + 2 * (30 + 4.5)),
    "pairs, a row each": (lambda: ALONE.pairs, 2 * (50 + 30 + 4.5)),
    "language model": (lambda: decoding(SMALL, 16, 119), 2 * 3 * 576 * 16 + 4 * 3 * 8 * 119),
    # 5 tokens are 20 patches: 2 x (2 x 128 + 50) x 20 + 4 x 4 x (20 x 20 + 20 x 4)
    "tower": (lambda: seeing(SMALL.tower, 5), 2 * 306 * 20 + 16 * 480),
    "forward, packed": (lambda: forward(SMALL, GROUP), 66_720 + 19_920),
    "forward, a row each": (lambda: forward(SMALL, ALONE), 2 * 3 * 576 * 26 + 96 * 169 + 2 * 19_920),
    # one unit is 2 x 6 tokens x 100 words: student 3 x 8, teacher 16, reference 8, again 8 + 16
    "objective": (lambda: objective(SMALL, WIDE, GROUP, reference=True, twice=False), 1200 * 48),
    "objective in pieces": (lambda: objective(SMALL, WIDE, GROUP, reference=True, twice=True), 1200 * 72),
    "student, recomputed": (lambda: flops(checkpointing=True).student, 4 * 86_640),
    "student": (lambda: flops(checkpointing=False).student, 3 * 86_640),
    "reference": (lambda: flops(checkpointing=True).reference, 86_640),
    # bf16: 2 + 4 + 12 bytes of the student, 2 of the others: 7B from 72B on 16
    "static": (
        lambda: sum(trained(16).static.values()),
        (18 * 8_292_166_656 + 2 * 73_410_777_344 + 2 * 8_292_166_656) / 16,
    ),
    "static in fp32": (
        lambda: sum(trained(16, precision="fp32").static.values()),
        (16 * 8_292_166_656 + 4 * 73_410_777_344 + 4 * 8_292_166_656) / 16,
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
    assert RELEASED[name].size.parameters == RELEASED[name].parameters
    assert released(f"{RELEASED[name].name}@main") is RELEASED[name]


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


def test_a_folder_is_as_large_as_its_files(trained):
    from masters.cli_plan import _size
    from masters.models.folder import parameter_count

    student = _size(str(trained[0]))
    computed = ModelSize(student.decoder, student.tower)
    assert computed.parameters == parameter_count(trained[0]) == student.parameters
    for train in (TrainConfig(), TrainConfig(tower_lr_factor=0), TrainConfig(projector_lr_factor=0)):
        told, counted = checkpoint_bytes(student, train), space.checkpoint_bytes(trained[0], train)
        assert told == counted


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "llava", "vision_config": {}}, "model_type llava: its size is not known"),
        ({"model_type": "qwen2", "hidden_size": 8}, "lacks num_hidden_layers"),
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
