"""A response with a token id that no tokenizer has, from the responses in a run directory to what the train stage says of it."""

import json

import pyarrow as pa
import pytest
import torch

from masters.algo.fused import sft_objective
from masters.algo.terms import Head
from masters.data.metrics import METRICS
from masters.data.samples import write_samples
from masters.data.shards import Shard
from masters.data.storage import Storage
from masters.data.tables import RESPONSES, SAMPLES, VERDICTS
from masters.families.qwen2_5_vl import QWEN2_5_VL
from masters.models.chat import ChatProcessor, common_vocabulary
from masters.models.checkpoint import load_model
from masters.models.packing import hidden_states
from masters.stages import train
from masters.training.batches import Collator
from masters.training.clock import PARTS
from masters.training.curriculum import Step
from masters.training.groups import GroupReader, shards_of
from masters.training.metrics import StepMetrics

LAST, OUTSIDE = 423, 424
"""The tokenizer's largest id; the head has rows up to 447."""

PLANTED = {
    "none": ([[5, LAST, 2], [7, 2]], [[8, 2], [9, 2]], 0),
    "one": ([[5, OUTSIDE, 2], [7, 2]], [[8, 2], [9, 2]], 1),
    "the last row of the head, as an answer's end": ([[5, 2], [7, 447]], [[8, 2], [9, 2]], 1),
    "a whole group": ([[OUTSIDE, 2], [447]], [[8, 2], [9, 2]], 2),
    "a step without a response": ([[OUTSIDE], [440, 2]], [[430, 2], [OUTSIDE, OUTSIDE]], 4),
}


def table(rows, schema):
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)


def a_run(folder, *groups):
    """Questions without images, and the student's responses to them."""
    run, shard = Storage(str(folder)), Shard("student", "0.00", "train", 0, len(groups))
    plain = {"levels": ["t@r0.00"], "history": [], "image_ids": [], "question": "How many bars?", "prompt_tokens": 9}
    write_samples(
        run, "train", table([{"sample_id": f"s/{i}", "position": i, **plain} for i in range(len(groups))], SAMPLES)
    )
    rows = [
        {"sample_id": f"s/{i}", "author": "student", "index": j, "text": "a", "token_ids": ids, "verdict": j % 2}
        for i, of_group in enumerate(groups)
        for j, ids in enumerate(of_group)
    ]
    run.write_table(shard.file("responses"), table(rows, RESPONSES))
    run.write_table(shard.file("verdicts"), table(rows, VERDICTS))
    return run


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_never_trains_and_is_counted_to_the_end(name, tmp_path, make_model):
    *groups, dropped = PLANTED[name]
    run, folder = a_run(tmp_path, *groups), make_model("test")
    chat, model = ChatProcessor(folder, QWEN2_5_VL), load_model(folder, torch.float32)
    vocabulary = common_vocabulary(chat, chat)
    assert (vocabulary, model.lm_head.weight.shape[0]) == (OUTSIDE, 448)
    reader = GroupReader(run, shards_of(run.names("responses", ".parquet")), [vocabulary])
    batch = Collator(run, chat, model)(reader.groups(Step(0, 0, "t@r0.00", "0.00", 0, 2)))
    assert batch.dropped == dropped
    assert len(batch.keys) == 4 - dropped
    assert batch.packed.input_ids.max() < vocabulary
    metrics = StepMetrics()
    metrics.count(batch)
    if batch.responses is None:
        assert dropped == 4
    else:
        head = Head(hidden_states(model, batch.packed, batch.media), model.lm_head.weight)
        loss, log_probability_J = sft_objective(head, batch.responses, groups=2)
        loss.backward()
        assert torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).isfinite().all()
        metrics.add_sft(loss.item(), log_probability_J)
    metrics.cost(dict.fromkeys([*PARTS, "step"], 1.0), 1.0)
    row = metrics.reduce(lambda found: [found])
    assert (row["n_dropped"], row["n_responses"], row["dropped_share"]) == (dropped, 4 - dropped, dropped / 4)
    run.write(METRICS, "".join(json.dumps(each) + "\n" for each in (row, row)).encode())
    counts, words = train._summary(run, 2)
    assert counts == {"steps": 2, "dropped": 2 * dropped}
    assert (f"{2 * dropped} responses dropped: they hold token ids that no tokenizer knows" in words) == bool(dropped)
