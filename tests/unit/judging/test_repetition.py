import pytest

from masters.judging.repetition import is_repetitive


@pytest.mark.parametrize(
    "text",
    [
        "red red red",
        "the cat the cat the cat the cat",
        "It is. It is. It is. It is.",
        "I think so. Yes yes yes yes yes",
        "哈哈哈哈",
        "a b c a b c a b c and more",
    ],
)
def test_one_phrase_over_and_over(text):
    assert is_repetitive(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "red",
        "1111",
        "0.3333333",
        "very very good",
        "no, no",
        "There are four bars.",
        "The red bar is taller than the blue bar, and the green bar is taller than the red bar.",
        "Yes ... ... ...",
        "ha ha ha, that is a long and otherwise quite reasonable answer to the question",
    ],
)
def test_ordinary_answers(text):
    assert not is_repetitive(text)
