"""Every family in real engines: vLLM masked in place against explicitly masked folders and transformers, ZeRO-3 on two ranks."""

import json
import shutil
from dataclasses import asdict
from decimal import Decimal

import pytest
import torch
from PIL import Image, ImageDraw

from masters.algo.schedule import ratio_key
from masters.config.engine import EngineConfig
from masters.config.resources import EngineResources
from masters.engines.masked_vllm import MaskedEngine, Request, Sampling, engine_environment
from masters.models.chat import ChatProcessor
from masters.models.checkpoint import load_model, tensors
from masters.models.folder import family_of, shapes, weight_files
from masters.models.packing import hidden_states
from masters.models.thresholds import ThresholdsFile, export_masked, file_thresholds
from masters.models.tiny_families import KINDS
from tests.engines.batches import RATIOS as TRAINED
from tests.engines.families_worker import rank_batch
from tests.engines.ranks import launch

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("default")]
every_family = pytest.mark.parametrize("kind", KINDS)

RATIOS = ("0.40", "0.20", "0.00")
SWITCHES = ("0.40", "0.00", "0.20", "0.40")
CONFIG = EngineConfig(dtype="float32", max_model_len=512)
RESOURCES = EngineResources(max_num_seqs=8, kv_cache_gib=0.25, compile=False)
GREEDY = Sampling(count=1, max_tokens=16, temperature=0.0)


@pytest.fixture(scope="module", autouse=True)
def _environment():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in engine_environment(0, RESOURCES).items():
            patch.setenv(name, value)
        yield


def picture(seed, width, height):
    image = Image.new("RGB", (width, height), (40 * seed % 256, 90, 200))
    ImageDraw.Draw(image).ellipse((width // 4, height // 4, width // 2, height // 2), fill=(250, 30 * seed % 256, 20))
    return image


ASKED = [
    ([picture(1, 120, 90)], "what"),
    ([picture(2, 100, 100), picture(3, 150, 70)], "two images"),
    ([], "text only"),
    ([picture(4, 64, 128)], "which"),
    ([picture(5, 300, 40)], "a wide one"),
]


def chats():
    return [
        [{"role": "user", "content": [{"type": "image"}] * len(images) + [{"type": "text", "text": text}]}]
        for images, text in ASKED
    ]


def thresholds_of(folder, ratios=RATIOS):
    family, found = family_of(folder), {}
    for file in weight_files(folder):
        found |= file_thresholds(folder, file, family, "linear", [Decimal(r) for r in ratios])
    return ThresholdsFile(family.name, "linear", "print", tuple(ratio_key(Decimal(r)) for r in ratios), found)


def answers(engine, chat):
    requests = [Request(chat.prompt(c), images, 0) for c, (images, _) in zip(chats(), ASKED, strict=True)]
    return [completions[0].token_ids for completions in engine.generate(requests, GREEDY)]


def start(folder, **options):
    return MaskedEngine(folder, CONFIG, RESOURCES, images_per_prompt=2, **options)


@torch.inference_mode()
def by_transformers(folder, chat):
    """Greedy answers with the excluded ids excluded, as in engines."""
    from transformers import AutoModelForImageTextToText, AutoTokenizer

    from masters.engines.allowed_tokens import excluded_of

    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").eval()
    excluded = excluded_of(AutoTokenizer.from_pretrained(folder), model.config.model_type, (), chat.head_rows)
    told = []
    for c, (images, _) in zip(chats(), ASKED, strict=True):
        inputs = chat.processor(text=[chat.prompt(c)], images=images or None, return_tensors="pt")
        inputs.pop("token_type_ids", None)
        output = model.generate(**inputs, max_new_tokens=16, do_sample=False, suppress_tokens=excluded)
        told.append(tuple(output[0, inputs["input_ids"].shape[1] :].tolist()))
    return told


@every_family
def test_masks_in_vllm(make_family, kind, tmp_path):
    """One engine switched four times; the same engine's prompts against the processor's; unmasked answers against transformers."""
    folder = make_family(kind, "teacher")
    chat, file = ChatProcessor(folder, family_of(folder)), thresholds_of(folder)
    (tmp_path / "t.json").write_text(json.dumps(asdict(file)))
    engine, found = start(folder, thresholds=tmp_path / "t.json", ratio="0.20"), {}
    found["0.20"] = [answers(engine, chat)]
    for ratio in SWITCHES:
        engine.switch(ratio)
        found.setdefault(ratio, []).append(answers(engine, chat))
    rendered = [
        engine.prepare([Request(chat.prompt(c), images, 0)])[0].rendered
        for c, (images, _) in zip(chats(), ASKED, strict=True)
    ]
    engine.close()
    for prompt, c, (images, _) in zip(rendered, chats(), ASKED, strict=True):
        assert list(prompt["prompt_token_ids"]) == chat.encode(c, images).input_ids.tolist()
    explicit = {}
    for ratio in RATIOS:
        target = folder if ratio == "0.00" else tmp_path / ratio
        if ratio != "0.00":
            export_masked(folder, file, ratio, target)
        engine = start(target)
        explicit[ratio] = answers(engine, chat)
        engine.close()
    for ratio, told in found.items():
        assert all(one == explicit[ratio] for one in told), ratio
    assert explicit["0.40"] != explicit["0.00"] != explicit["0.20"] != explicit["0.40"]
    assert explicit["0.00"] == by_transformers(folder, chat)


@pytest.fixture(scope="module")
def gang(make_family, tmp_path_factory):
    """The folder of what two ranks found in each family. One that waits for the other ends by its time-out, and fails."""
    folder, jobs = tmp_path_factory.mktemp("gang"), []
    for kind in KINDS:
        student, teacher = make_family(kind), make_family(kind, "teacher")
        (folder / f"{kind}.json").write_text(json.dumps(asdict(thresholds_of(teacher, TRAINED))))
        place = {"student": student, "teacher": teacher, "thresholds": folder / f"{kind}.json"}
        jobs.append({"what": "check", "out": folder / kind, **place})
    jobs.append(
        {"what": "head", "out": folder / "silent", "folder": silent(make_family("internvl3"), folder / "silent")}
    )
    launch(2, "families_worker.py", jobs, folder / "jobs.json")
    return folder


def silent(source, folder):
    """A model whose config.json does not say whether its head is tied, as older ones of InternVL; transformers takes it for tied."""
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text())
    for part in (config, config["text_config"]):
        part.pop("tie_word_embeddings", None)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def ranks(gang, kind):
    return [torch.load(gang / f"{kind}-{rank}.pt", weights_only=False) for rank in range(2)]


@every_family
def test_the_gathered_teacher_is_the_masked_folder(ranks, gang, make_family, kind, tmp_path):
    folder, file = make_family(kind, "teacher"), ThresholdsFile.load(gang / f"{kind}.json")
    for ratio in TRAINED:
        export_masked(folder, file, ratio, tmp_path / ratio)
        for name, weight in load_model(tmp_path / ratio, torch.float32).named_parameters():
            assert all(torch.equal(rank["teacher"][ratio][name], weight) for rank in ranks), (ratio, name)


@every_family
@torch.no_grad()
def test_split_models_compute_what_whole_ones_do(ranks, make_family, kind):
    """With their own heads: one rank has rows of 2, 0 and 1 images, the other none."""
    model = load_model(make_family(kind), torch.float32)
    for number, rank in enumerate(ranks):
        batch = rank_batch(make_family(kind), number, model)
        states = hidden_states(model, batch.packed, batch.media)
        assert (rank["hidden"] - states).abs().max() <= 1e-5 * states.abs().max()
        assert torch.equal(rank["head"], model.lm_head.weight)


@every_family
def test_the_exported_student_has_the_names_and_shapes_of_its_source(ranks, gang, make_family, kind):
    source, target = make_family(kind), gang / f"{kind}-student"
    assert shapes(target) == shapes(source)
    kinds = [{n: w.dtype for f in weight_files(folder) for n, w in tensors(folder, f)} for folder in (source, target)]
    assert kinds[0] == kinds[1]
    before = dict(load_model(source, torch.float32).named_parameters())
    moved = 0
    for name, weight in load_model(target, torch.float32).named_parameters():
        assert torch.equal(weight, ranks[0]["weights"][name].to(torch.bfloat16).float()), name
        moved += not torch.equal(weight, before[name])
    assert moved > 0.9 * len(before)
    assert ranks[0]["norms"] == ranks[1]["norms"]
    assert all(0 < norm < float("inf") for norm in ranks[0]["norms"])


def test_a_head_of_its_own_is_not_lost_where_weights_are_split_as_they_are_read(gang):
    """There transformers cannot compare it with the embedding, ties the two and says nothing."""
    (head,) = (w for n, w in tensors(gang / "silent", "model.safetensors") if n == "language_model.lm_head.weight")
    for rank in range(2):
        assert torch.equal(torch.load(gang / f"silent-{rank}.pt")["head"], head.float())
