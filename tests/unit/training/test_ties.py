"""Equal responses are worth the same, whatever the precision of the forwards: with the trained pair that ships."""

from dataclasses import replace

import pytest
import torch

from masters.algo.fused import masters_objective
from masters.algo.reward import TIE, TIE_BF16
from masters.algo.terms import Head, Terms
from masters.config.train import TrainConfig
from masters.data.sources.charts import scene
from masters.models.chat import ChatProcessor
from masters.models.checkpoint import load_model
from masters.models.folder import family_of
from masters.models.packing import hidden_states
from masters.training.groups import Group, Response
from masters.training.trio import objective_of
from tests.engines.batches import ChartCollator

QUESTIONS, TIMES = 12, 12
"""Answers said twelve times over: long enough for bf16 to round equal responses apart."""


@pytest.fixture(scope="module", params=["bf16", "fp32"])
def precision(request):
    return request.param


@pytest.fixture(scope="module")
def batch(trained, precision):
    """Heads of student and teacher, and responses: to each question eight times the same one, all wrong."""
    torch.set_num_threads(1)
    chat = ChatProcessor(trained[0], family_of(trained[0]))
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]
    models = [load_model(folder, dtype) for folder in trained]
    groups = []
    for index in range(QUESTIONS):
        question = scene(0, index).questions[0]
        ids = list(chat.answer_ids(question.answers[-1]))[:-1] * TIMES
        sample = {"sample_id": str(index), "system": None, "history": [], "question": question.text, "image_ids": [str(index)]}  # fmt: skip
        groups.append(Group(sample, [Response("t", number, ids, 0) for number in range(8)]))
    made = ChartCollator(None, chat, models[0])(groups)
    media = {name: value.to(dtype) if value.is_floating_point() else value for name, value in made.media.items()}
    with torch.no_grad():
        heads = [Head(_rounded(hidden_states(model, made.packed, media)), model.lm_head.weight) for model in models]
    return heads, made.responses


def _rounded(hidden_TH):
    """Rounded up or down at random, as kernels do whose sums depend on where a response lies. Those of a CPU do not."""
    draw = torch.Generator().manual_seed(0)
    up = torch.rand(hidden_TH.shape, generator=draw) < 0.5
    return torch.where(up, hidden_TH, hidden_TH.nextafter(torch.zeros_like(hidden_TH)))


def computed(batch, **changes) -> Terms:
    heads, responses = batch
    objective = replace(objective_of(TrainConfig(clamp_advantages=True), 424), **changes)
    with torch.no_grad():
        return masters_objective(*heads, None, responses, objective, groups=QUESTIONS)[1]


def test_equal_responses_share_one_divergence(batch):
    terms = computed(batch, tie=0.0)  # no rule about ties helps
    assert (terms.divergence_J > 1e-3).all()
    assert (terms.divergence_J.view(QUESTIONS, 8) == terms.divergence_J.view(QUESTIONS, 8)[:, :1]).all()
    assert terms.distill_reward_J.tolist() == [1.0] * 8 * QUESTIONS


def test_equal_wrong_responses_are_not_pushed_up(batch):
    assert computed(batch).advantage_J.tolist() == [0.0] * 8 * QUESTIONS


def test_without_the_rules_bf16_would_push_them_up(batch, precision, monkeypatch):
    """The batch is one that needs them: else the tests above could not fail."""
    monkeypatch.setattr("masters.algo.fused.shared_divergence", lambda divergence_J, *_: divergence_J)
    apart = computed(batch, tie=TIE).advantage_J.abs().view(QUESTIONS, 8).amax(1) > 0
    assert bool(apart.any()) == (precision == "bf16")
    assert not computed(batch, tie=TIE_BF16).advantage_J.any()


@pytest.mark.parametrize(("name", "tie"), [("bf16", 2e-3), ("fp32", 1e-4)])
def test_what_is_tied_follows_from_the_precision_of_training(name, tie):
    train = TrainConfig(precision=name, policy_weight=0.5, kl_weight=0.2, kl="k3", clamp_advantages=True)
    found = objective_of(train, 99)
    assert found.tie == tie
    assert (found.policy_weight, found.kl_weight, found.kl) == (0.5, 0.2, "k3")
    assert (found.clamp_advantages, found.vocabulary) == (True, 99)
