import pytest

from masters.judging.matching import matches, normalise, numbers_in


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The circle is red.", "circle is red"),
        ("  Yes!  ", "yes"),
        ("A  big,red CAT", "big red cat"),
        ("3.5", "3.5"),
        ("1,234", "1,234"),
        ("It is 3.", "it is 3"),
        ("40 %", "40 %"),
        ("-5", "-5"),
        ("Straße", "strasse"),
        ("ﬁne", "fine"),
        ("", ""),
    ],
)
def test_normalise(text, expected):
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("response", "answers", "kind", "expected"),
    [
        ("The circle is red.", ["red", "The circle is red."], "text", True),
        ("red", ["Red."], "text", True),
        ("reddish", ["red"], "text", False),
        ("2020", ["1950"], "number", True),  # within 5 %: such labels must be declared text
        ("2020", ["1950"], "text", False),
        ("1950", ["1950"], "text", True),
        ("104", ["100"], "number", True),
        ("105", ["100"], "number", True),
        ("106", ["100"], "number", False),
        ("The value is 98.", ["100"], "number", True),
        ("Between 98 and 99", ["100"], "number", False),
        ("1,020", ["1000"], "number", True),
        ("41 %", ["40%"], "number", True),
        ("0", ["0"], "number", True),
        ("0.01", ["0"], "number", False),
        ("-100", ["100"], "number", False),
        ("about five minutes", ["5"], "number", False),
        ("", ["5"], "number", False),
        ("", ["red"], "text", False),
    ],
)
def test_matches(response, answers, kind, expected):
    assert matches(response, answers, kind, 0.05) is expected


def test_numbers_in_text():
    assert numbers_in("from 1,234.5 to -3 and 40%, not x") == [1234.5, -3.0, 40.0]
