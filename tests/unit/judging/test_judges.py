"""The teacher judge against an engine that says what a script tells it. (The real engine is in tests/stages.)"""

from masters.config.score import TeacherJudge as Config
from masters.engines.masked_vllm import Completion
from masters.judging.judges import Item, RuleJudge, TeacherJudge


class Chat:
    def prompt(self, chat):
        return chat[-1]["content"][0]["text"]

    def tokenizer(self, text):
        return type("Encoded", (), {"input_ids": text.split()})


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


def judge(engine, longest=1000, attempts=3):
    return TeacherJudge(engine, Chat(), Config(type="teacher", max_tokens=32, attempts=attempts), longest, seed=0)


def honest(prompt, _):
    if "<overall_summary>" in prompt:
        return "1" if "same" in prompt else "0"
    return (
        "the same <answer>1</answer>"
        if "\nred\n" in prompt.split("<generated text>")[1]
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
    engine = Engine(lambda prompt, call: "1" if call > 2 and "<overall_summary>" in prompt else "hm")
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


def test_the_rule_judge():
    verdicts = RuleJudge(0.05).judge([item("Red."), item("green")])
    assert [v.value for v in verdicts] == [1, 0]
