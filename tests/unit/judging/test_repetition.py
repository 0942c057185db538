import pytest

from masters.judging.repetition import is_repetitive


@pytest.mark.parametrize(
    "text",
    [
        "red " * 20,
        "the cat " * 12,
        "It is. " * 10,
        "I think so, for I have looked at it twice. " + "yes " * 12,
        "哈" * 20,
        "😀" * 20,
        "a b c " * 7 + "and more",
    ],
)
def test_one_phrase_over_and_over(text):
    assert is_repetitive(text, 20)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "red",
        "1111",
        "😀😀😀",
        "😀🚗🏠🌳" * 4,
        "0.3333333",
        "very very very good",
        "no, no",
        "A, A, A",
        "0 0 0",
        "5, 5, 5",
        "(0,0,0)",
        "00:00:00",
        "1,000,000,000",
        "New York, New York, New York",
        "哈哈哈",
        "| 1 | 1 | 1 |\n| --- | --- | --- |\n| 1 | 1 | 2 |",
        "for i in range(3): print(i); print(i); print(i)",
        "There are four bars.",
        "The red bar is taller than the blue bar, and the green bar is taller than the red bar, which is taller than the rest.",
        "Yes ... ... ..." * 5,
        "ha ha ha, that is a long and otherwise quite reasonable answer to the question, which I have read with care twice",
    ],
)
def test_ordinary_answers(text):
    assert not is_repetitive(text, 20)


def test_the_shortest_length_that_is_looked_at():
    assert is_repetitive("red red red", 3)
    assert not is_repetitive("red red red", 4)
