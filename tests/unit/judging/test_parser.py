import pytest

from masters.judging.parser import answer_tag, integer_score, verdict

FIRST = [
    ("The text says red, as the ground truth does. <answer>1</answer>", 1),
    ("It names another colour.\n<answer>0</answer>", 0),
    ("<answer> 1 </answer>", 1),
    ("<answer>\n0\n</answer>\n", 0),
    ("<ANSWER>1</ANSWER>", 1),
    ("< answer >1< / answer >", 1),
    ("<answer>**1**</answer>", 1),
    ("<answer>`0`</answer>", 0),
    ("<answer>1.</answer>", 1),
    ("<answer>1.0</answer>", 1),
    ("If it were right, <answer>1</answer>. But it is wrong, so <answer>0</answer>", 0),
    ("<think>maybe <answer>0</answer>?</think> It matches. <answer>1</answer>", 1),
    ("The score is 1.", None),
    ("<answer>yes</answer>", None),
    ("<answer></answer>", None),
    ("<answer>2</answer>", None),
    ("<answer>0.5</answer>", None),
    ("<answer>10</answer>", None),
    ("<answer>1", None),
    ("<answer>-1</answer>", None),
    ("", None),
    ("<think>I never stop thinking <answer>1</answer>", None),
    ("<answer>1 or 0</answer>", None),
    ("<answer>１</answer>", 1),
    ("I put the score in <answer> tags: <answer>1</answer>", 1),
    ("<answer>1</answer>, as I was told to put it in <answer> tags.", None),
    ("A thought that the template opened. <answer>0</answer></think>Right: <answer>1</answer>", 1),
]
SECOND = [
    ("1", 1),
    ("0", 0),
    (" 1\n", 1),
    ("1.", 1),
    ("**0**", 0),
    ("Score: 1", 1),
    ("<answer>1</answer>", 1),
    ("The integer score is 0.", 0),
    ("1.0", 1),
    ("<think>it was 0 before</think>1", 1),
    ("", None),
    ("yes", None),
    ("2", None),
    ("-1", None),
    ("0.5", None),
    ("10", None),
    ("0 or 1", None),
    ("1/1", None),
    ("one", None),
    ("<think>1", None),
    ("Score 1 (of 1)", None),
    ("１", 1),
    ("Final score: 0.", 0),
    ("1\n\nThe text says red, as the ground truth does.", 1),
    ("1\nof 3 points", None),
    ("not 1", None),
    ("I would not give it 1", None),
    ("1%", None),
    ("1 %", None),
    ("1st", None),
    ("1. It is wrong", None),
    ("1 out of 1", None),
    ("$1", None),
    ("The score is 1 because of 3 reasons", None),
    ("it was 0 before</think>1", 1),
]
UNREADABLE = ["0.5", "10", "Score: 0", "(0)", "[0]", "0/1", "incorrect", "not 1", "1%", "", "2", "-1", "0 < 1", "one"]
PAIRS = [
    ("<answer>1</answer>", "1", 1),
    ("<answer>0</answer>", "0", 0),
    ("<answer>1</answer>", "0", None),
    ("<answer>0</answer>", "1", None),
    ("no tag at all", "1", 1),
    ("no tag at all", "nothing", None),
    ("<answer>1</answer>", "", None),
    ("", "", None),
    ("<answer>0", "1", None),
    ("<answer foo=1>0</answer>", "1", None),
    ("<answer/>", "1", None),
    ("<think>It says red, so", "1", None),
    *((f"It says red. <answer>{words}</answer>", second, None) for words in UNREADABLE for second in ("1", "0")),
]


@pytest.mark.parametrize(("completion", "expected"), FIRST)
def test_the_first_completion(completion, expected):
    assert answer_tag(completion) == expected


@pytest.mark.parametrize(("completion", "expected"), SECOND)
def test_the_second_completion(completion, expected):
    assert integer_score(completion) == expected


@pytest.mark.parametrize(("first", "second", "expected"), PAIRS)
def test_the_second_counts_unless_the_first_contradicts_it(first, second, expected):
    assert verdict(first, second) == expected


def test_enough_was_written_down():
    assert len(FIRST) + len(SECOND) >= 40
