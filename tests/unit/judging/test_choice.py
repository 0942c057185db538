from pathlib import Path

import pytest
import yaml

from masters.judging.choice import label_letter, lettered, resolve
from masters.judging.matching import matches

CASES = yaml.safe_load(Path(__file__).with_name("choices.yaml").read_text(encoding="utf-8"))
OPTIONS = CASES.pop("options")
ROWS = [row for rows in CASES.values() for row in rows]
ROTATED = {"B": "10 12 15 20", "C": "20 10 12 15", "D": "15 20 10 12", "A": "12 15 20 10"}


@pytest.mark.parametrize(("which", "label", "answer", "letter", "right"), ROWS)
def test_cases(which, label, answer, letter, right):
    options = OPTIONS[which]
    assert (resolve(answer, lettered(options)) or "-") == letter
    assert matches(answer, [label], "choice", 0.05, options) is bool(right)


@pytest.mark.parametrize("gold", ROTATED)
def test_an_option_that_moves_is_found_by_its_letter_and_by_its_text(gold):
    options = ROTATED[gold].split()
    for answer in (gold, f"({gold}) 12", f"The answer is {gold}.", "12", f"选{gold}"):
        assert resolve(answer, lettered(options)) == gold


def test_other_columns_than_the_first_may_be_options():
    assert resolve("C", {"A": "x", "B": "y"}) is None
    assert resolve("C", {"A": "x", "C": "y"}) == "C"


def test_twenty_six_options_and_no_more():
    options = lettered([str(number) for number in range(100, 126)])
    assert resolve("Z", options) == "Z"
    assert resolve("Cannot determine the answer", options) is None
    with pytest.raises(ValueError, match="27 are more than the 26 letters"):
        lettered(["x"] * 27)


def test_a_label_with_two_equal_options_is_its_letter_only():
    options = lettered(["red", "red", "blue"])
    assert label_letter("red", options) is None
    assert label_letter("B", options) == "B"


@pytest.mark.parametrize(
    ("answer", "options", "letter"),
    [
        ("B", ["B", "A"], "B"),  # a letter before a text that is a letter
        ("dog", ["", "dog"], "B"),
        ("115", ["1.5", "2"], None),
        ("Vitamin A B", ["Vitamin A", "iron", "Vitamin A B"], None),
    ],
)
def test_odd_options(answer, options, letter):
    assert resolve(answer, lettered(options)) == letter


@pytest.mark.parametrize(
    ("label", "options", "letter"),
    [
        (" A ", ["B", "A"], "A"),
        ("rabbit", [" rabbit ", "rabbit hole"], "A"),
        ("12", ["１２", "13"], "A"),
        ("Cannot determine the answer", ["10", "12"], None),
    ],
)
def test_odd_labels(label, options, letter):
    assert label_letter(label, lettered(options)) == letter


def test_the_label_may_be_given_as_letter_and_as_text():
    options = ["teddy bear", "rabbit"]
    assert matches("rabbit", ["B", "rabbit"], "choice", 0.05, options)
    assert not matches("teddy bear", ["B", "rabbit"], "choice", 0.05, options)
