import random
from itertools import islice
from pathlib import Path

import pytest
import torch

from masters.data.sources.charts import Question
from masters.families.qwen2_5_vl import QWEN2_5_VL
from masters.judging.judges import Reply
from masters.judging.parser import answer_tag, integer_score
from masters.judging.tiny_examples import KINDS, examples, is_held_out, training_questions
from masters.judging.tiny_judge import GreedyModel, agreement, held_out, train_folder
from masters.models.chat import ChatProcessor
from masters.models.checkpoint import load_model

SHIPPED = Path(__file__).parents[3] / "models" / "tiny-judge"
AT = Question("at", "What is at the top left?", ("red circle", "A red circle.", "There is a red circle."))


def drawn(question, number, *, held):
    return list(islice(examples(question, random.Random(3), held), number))


def test_every_kind_of_response_is_drawn_and_the_rule_says_what_is_right():
    asked = [one for question in training_questions()[:100] for one in drawn(question, 8, held=False)]
    assert {one.kind for one in asked} == set(KINDS)
    right = {kind: [one.verdict for one in asked if one.kind == kind] for kind in KINDS}
    assert set(right["exact"]) == set(right["other words"]) == {1}
    assert sum(right["near"]) == 0
    assert 0.3 < sum(one.verdict for one in asked) / len(asked) < 0.6
    assert all(answer_tag(one.explanation) == one.verdict for one in asked)


def test_no_response_is_drawn_twice_for_a_question_and_none_in_training_that_is_held_out():
    training, test = drawn(AT, 40, held=False), drawn(AT, 10, held=True)
    for asked in (training, test):
        assert len({one.response for one in asked}) == len(asked)
    assert not {(o.label, o.response) for o in training} & {(o.label, o.response) for o in test}
    measured = [one for _, one in held_out(300)]
    assert len(measured) == 300
    assert all(is_held_out(one.question, one.label, one.response) for one in measured)
    share = sum(is_held_out(AT.text, "red circle", str(number)) for number in range(5000)) / 5000
    assert share == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(
    ("reply", "agrees", "null"),
    [("The rule's verdict.", 1.0, 0.0), ("The opposite.", 0.0, 0.0), ("Words without a score.", 0.0, 1.0)],
)
def test_agreement_counts_null_and_the_opposite_as_disagreement(reply, agrees, null):
    asked = held_out(20)

    class Scripted:
        control_tokens = ()

        def __init__(self):
            self.verdicts = None

        def ask(self, questions):
            if self.verdicts is None:
                self.verdicts = [one.verdict for _, one in asked]
                return [Reply(f"I looked at response {i}.") for i in range(len(questions))]
            values = [1 - v if reply == "The opposite." else v for v in self.verdicts]
            return [Reply(reply if null else str(v)) for v in values]

    measured = agreement(Scripted(), asked)
    assert (measured["agreement"], measured["null"]) == (agrees, null)
    assert sum(number for _, number in measured["by_kind"].values()) == measured["responses"] == 20


def test_a_few_steps_of_training_lower_the_loss_and_write_a_judge(tmp_path):
    losses = []
    measured = train_folder(tmp_path, 20, 1, lambda _, loss: losses.append(loss), responses=4)
    assert sum(losses[8:11]) < 0.8 * sum(losses[:3])  # both of short prompts
    assert measured["responses"] == 4
    judge = GreedyModel(load_model(tmp_path, torch.float32), ChatProcessor(tmp_path, QWEN2_5_VL))
    assert judge.control_tokens


def test_the_shipped_judge_agrees_with_the_rule_on_responses_that_it_never_saw():
    torch.set_num_threads(1)
    judge = GreedyModel(load_model(SHIPPED, torch.float32), ChatProcessor(SHIPPED, QWEN2_5_VL))
    measured = agreement(judge, held_out(200))
    assert measured["agreement"] >= 0.9
    assert measured["null"] <= 0.01


def test_the_shipped_judge_answers_the_second_prompt_with_what_the_summary_says():
    from masters.judging.judges import Question as Asked
    from masters.judging.prompts import score_prompt

    judge = GreedyModel(load_model(SHIPPED, torch.float32), ChatProcessor(SHIPPED, QWEN2_5_VL))
    summaries = {one.explanation: one.verdict for _, one in held_out(30)}
    code = "0123456789abcdef"
    replies = judge.ask([Asked(score_prompt(summary, code), 0, 16, 0.0) for summary in summaries])
    assert [integer_score(reply.text) for reply in replies] == list(summaries.values())
