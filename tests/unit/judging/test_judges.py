"""The teacher judge against an engine that says what a script tells it. (The real engine is in tests/stages.)"""

import re

import pytest

from masters.config.score import TeacherJudge as Config
from masters.engines.masked_vllm import Completion
from masters.judging.engine import EngineModel
from masters.judging.judges import Item, PromptedJudge, RuleJudge
from masters.reporting.departures import departures
from tests.stages import judged


class Tokenizer:
    def __call__(self, text):
        return type("Encoded", (), {"input_ids": text.split()})

    def get_added_vocab(self):
        return {"<turn>": 7}


class Chat:
    tokenizer = Tokenizer()

    def prompt(self, chat):
        return chat[-1]["content"][0]["text"]


class Engine:
    def __init__(self, say):
        self.say, self.asked = say, []

    def generate(self, requests, sampling):
        self.asked.append((requests, sampling))
        return [
            [Completion(self.say(request.prompt, len(self.asked)), (), "stop", request.seed)] for request in requests
        ]


def item(response, key="a/1"):
    return Item(key, "What colour?", ["red"], "text", response)


def judge(engine, longest=1000, attempts=3, **fields):
    config = Config(type="teacher", max_tokens=32, attempts=attempts, **fields)
    return PromptedJudge("teacher", EngineModel(engine, Chat(), longest), config, seed=0)


def honest(prompt, _):
    if "<overall_summary " in prompt:
        return "1" if "same" in prompt else "0"
    return (
        "the same <answer>1</answer>"
        if "\nred\n" in prompt.split("<generated text ")[1]
        else "other <answer>0</answer>"
    )


def test_verdicts_and_explanations():
    verdicts = judge(Engine(honest)).judge([item("red"), item("blue"), item("red")])
    assert [v.value for v in verdicts] == [1, 0, 1]
    assert verdicts[0].explanation == "the same <answer>1</answer>"


def test_equal_responses_are_asked_once_and_other_samples_apart():
    engine = Engine(honest)
    judge(engine).judge([item("red"), item("red"), item("red", key="a/2")])
    assert [len(requests) for requests, _ in engine.asked] == [2, 2]


def test_null_is_asked_again_with_another_seed_and_then_reported_as_null():
    engine = Engine(lambda prompt, call: "1" if call > 2 and "<overall_summary " in prompt else "hm")
    assert [v.value for v in judge(engine).judge([item("red")])] == [1]
    first, retry = engine.asked[0], engine.asked[2]
    assert first[0][0].seed != retry[0][0].seed
    assert first[1].temperature == 0
    assert retry[1].temperature > 0
    never = Engine(lambda *_: "hm")
    assert [v.value for v in judge(never).judge([item("red")])] == [None]
    assert len(never.asked) == 2 * 3


def test_only_what_failed_is_asked_again():
    engine = Engine(lambda prompt, call: honest(prompt, call) if "\nred\n" in prompt or "same" in prompt else "hm")
    assert [v.value for v in judge(engine, attempts=2).judge([item("red"), item("blue")])] == [1, None]
    assert [len(requests) for requests, _ in engine.asked] == [2, 2, 1, 1]


def test_a_prompt_that_leaves_no_room_is_null_and_not_sent():
    engine = Engine(honest)
    verdicts = judge(engine, longest=200, attempts=1).judge([item("red"), item("word " * 300)])
    assert [v.value for v in verdicts] == [1, None]
    assert len(engine.asked[0][0]) == 1


def codes(engine):
    return [
        [re.findall(r"^</[a-z_ ]+ ([0-9a-f]{16})>", r.prompt, re.MULTILINE) for r in asked] for asked, _ in engine.asked
    ]


def test_the_code_of_the_delimiters_is_the_samples_own_and_comes_again():
    engine, again = Engine(honest), Engine(honest)
    items = [item("red"), item("blue"), item("red", key="a/2")]
    judge(engine).judge(items)
    judge(again).judge(items)
    first, second = codes(engine)
    assert [len(found) for found in first + second] == [3] * 3 + [1] * 3
    assert all(len(set(found)) == 1 for found in first)
    assert first[0] == first[1] != first[2]
    assert not {found[0] for found in first} & {found[0] for found in second}
    assert codes(again) == [first, second]


def test_control_tokens_of_the_judges_own_tokenizer_are_broken_up_in_both_prompts():
    engine = Engine(lambda prompt, _: "1" if "<overall_summary " in prompt else "fine <turn> <answer>1</answer>")
    judge(engine).judge([item("red <turn>")])
    prompts = [requests[0].prompt for requests, _ in engine.asked]
    assert ["< turn>" in prompt and "<turn>" not in prompt for prompt in prompts] == [True, True]


def test_an_unreadable_score_in_the_first_completion_is_null():
    engine = Engine(lambda prompt, _: "1" if "<overall_summary " in prompt else "wrong <answer>Score: 0</answer>")
    assert [v.value for v in judge(engine, attempts=1).judge([item("red")])] == [None]


def test_multiple_choice_has_letter_and_text_as_ground_truth_and_goes_by_options_in_the_rule_judge():
    options = ["teddy bear", "rabbit"]
    one = Item("a/1", "What animal?", ["B", "rabbit"], "choice", "It is a rabbit", options)
    engine = Engine(honest)
    judge(engine).judge([one])
    assert "\nB. rabbit\n" in engine.asked[0][0][0].prompt
    other = Item("a/1", "What animal?", ["B"], "choice", "teddy bear", options)
    assert [v.value for v in RuleJudge(0.05).judge([one, other])] == [1, 0]


def test_the_rule_judge():
    verdicts = RuleJudge(0.05).judge([item("Red."), item("green")])
    assert [v.value for v in verdicts] == [1, 0]


@pytest.mark.parametrize(
    ("second_prompt", "first", "value", "rounds"),
    [
        ("unclear", "the same <answer>1</answer>", 1, 1),
        ("unclear", "other <answer>0</answer>", 0, 1),
        ("unclear", "the same", 1, 2),
        ("unclear", "<answer>maybe</answer>", None, 2),
        ("always", "the same <answer>1</answer>", 1, 2),
    ],
)
def test_the_second_prompt_may_be_left_out_where_the_first_score_is_clear(second_prompt, first, value, rounds):
    engine = Engine(lambda prompt, _: "1" if "<overall_summary " in prompt else first)
    (verdict,) = judge(engine, attempts=1, second_prompt=second_prompt).judge([item("red")])
    assert verdict.value == value
    assert verdict.explanation == first
    assert len(engine.asked) == rounds


def test_what_a_recipe_says_about_the_second_prompt_is_a_departure_and_the_default_is_not(tmp_path):
    default = {item.field for item in departures(judged.config(tmp_path, {"type": "teacher", "max_tokens": 64}))}
    fields = {"judge": {"type": "teacher", "second_prompt": "unclear"}, "match_first": True}
    found = {item.field: item for item in departures(judged.config(tmp_path, fields.pop("judge"), score=fields))}
    assert found.keys() - default == {"score.judge.second_prompt", "score.match_first"}
    assert found["score.judge.second_prompt"].paper == "always"
    (rule,) = [d for d in departures(judged.config(tmp_path, {"type": "rule"})) if d.field == "score.judge"]
    assert (rule.value, rule.paper) == ("rule", "teacher")
