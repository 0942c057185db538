from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from masters.data.sources.charts import scene
from masters.judging.matching import matches
from masters.judging.normalising import normalise
from masters.judging.quantities import Quantity, quantity

ANSWERS = yaml.safe_load(Path(__file__).with_name("answers.yaml").read_text(encoding="utf-8"))
ROWS = [row for rows in ANSWERS.values() for row in rows]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]!r}-{row[1]!r}-{row[2]}")
def test_answers(row):
    response, accepted, answer_type, right, why = row
    answers = accepted if isinstance(accepted, list) else [accepted]
    assert matches(response, answers, answer_type, 0.05) is right, why


def test_the_table_is_large_and_decides_both_ways():
    assert len(ROWS) >= 60
    assert all(len(row) == 5 and row[4] for row in ROWS)
    assert {row[2] for row in ROWS if row[3]} == {row[2] for row in ROWS if not row[3]}
    assert {row[2] for row in ROWS} == {"text", "number", "integer", "choice"}


@pytest.mark.parametrize("row", [r for r in ROWS if r[0].strip() and isinstance(r[1], str)], ids=lambda r: repr(r[1]))
def test_a_label_matches_itself_and_nothing_matches_nothing(row):
    answer = row[1]
    assert matches(answer, [answer], row[2], 0.05) is bool(answer)
    for empty in ("", " ", "\u200b", "<think>"):
        assert not matches(empty, [answer], row[2], 0.05)


def test_charts_answers_match_their_own_question_and_no_other_answer_of_its_kind():
    by_type = {}
    for question in (q for index in range(60) for q in scene(0, index).questions):
        by_type.setdefault(question.type, set()).add(question.answers)
    pairs = 0
    for accepted in by_type.values():
        for mine in accepted:
            for phrasing in {phrasing for answers in accepted for phrasing in answers}:
                pairs += 1
                said = normalise(phrasing)
                assert matches(phrasing, mine, "text", 0.05) is any(said == normalise(one) for one in mine), phrasing
    assert pairs > 1000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The circle is red.", "circle is red"),
        ("A  big,red CAT", "big red cat"),
        ("1,234", "1234"),
        ("40 %", "40%"),
        ("Straße", "strasse"),
        ("ﬁne", "fine"),
        ("", ""),
        ("The The", "the"),
        ("nineteen fifty", "nineteen fifty"),
        ("two hundred thousand and six", "200006"),
        ("12 million", "12 million"),
        ("zero five", "zero five"),
    ],
)
def test_normalise(text, expected):
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("from 1,234.5 km", "1234.5", "km"),
        ("€ -3", "-3", "€"),
        ("the share was 40 percent of all", "40", "%"),
        ("3 bn", "3000000000", ""),
        ("twelve million people", "12000000", "people"),
        ("20 °C", "20", "°c"),
        ("2 apples", "2", "apple"),
    ],
)
def test_quantity(text, value, unit):
    found = quantity(text, exact=False)
    assert found == Quantity(Decimal(value), unit)


@pytest.mark.parametrize(
    "text", ["", "red", "1 2", "1.2.3", "1,2345,6", "2020-01-02", "10^2", "5 pm or 6 pm", "two or 3"]
)
def test_no_quantity(text):
    assert quantity(text, exact=False) is None
