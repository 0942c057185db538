"""Every hand-computed case, and the note's figures."""

from pathlib import Path

import pytest
import yaml

from masters.benchmarks import Answer, Question, benchmark_named, graded, letters, open_answers, relaxed, typed, yes_no
from masters.benchmarks.circular import broken_groups
from masters.benchmarks.facts import COLUMNS
from masters.benchmarks.paper import AS_IT_IS, TRAINED, printed
from masters.benchmarks.scoring import outcomes, score
from tests.unit.benchmarks.quickly import file_of

CASES = yaml.safe_load(Path(__file__).with_name("cases.yaml").read_text(encoding="utf-8"))
OPTIONS = CASES["options"]
LETTERS = [row for rows in CASES["letters"].values() for row in rows]


def lettered(texts):
    return dict(zip("ABCDEFGHIJ", texts, strict=False))


def scored(name, question, response):
    """The value without a judge."""
    (found,) = outcomes(benchmark_named(name), [question], {question.index: Answer(response)})
    return found.value


def test_there_are_enough_of_them():
    assert sum(len(rows) for name, rows in CASES.items() if name not in ("options", "letters")) + len(LETTERS) >= 160


@pytest.mark.parametrize(("which", "gold", "response", "letter", "value"), [row[:5] for row in LETTERS])
def test_letters(which, gold, response, letter, value):
    question = Question("0", "?", gold, lettered(OPTIONS[which]))
    assert (letters.extract(question, response) or "-") == letter
    assert scored("MMStar", question, response) == value


@pytest.mark.parametrize("row", LETTERS, ids=str)
def test_where_a_harness_disagrees_the_data_say_so(row):
    """The last cell is there exactly where a reference's score is another than ours."""
    _, gold, _, _, value, vlmevalkit, lmms_eval, *differs = row
    theirs = [vlmevalkit, *(letter for letter in lmms_eval.split("/") if letter != "·")]
    assert bool(differs) == any((letter == gold) != bool(value) for letter in theirs)


@pytest.mark.parametrize(("which", "rows", "value"), [row[:3] for row in CASES["circular"]])
def test_circular_groups(which, rows, value):
    texts, questions = OPTIONS[which], []
    for rotation, (gold, _) in enumerate(rows):
        moved = texts[-rotation:] + texts[:-rotation] if rotation else texts
        questions.append(Question(str(7 + rotation * 1_000_000), "?", gold, lettered(moved)))
    if value == "incomplete":
        assert broken_groups(questions) == ["7"]
        return
    answers = {question.index: Answer(response) for question, (_, response) in zip(questions, rows, strict=True)}
    assert broken_groups(questions) == []
    assert score(file_of("MMBench_DEV_EN", questions), answers).value == value


@pytest.mark.parametrize(("answer", "response", "value"), [row[:3] for row in CASES["relaxed"]])
def test_relaxed(answer, response, value):
    assert scored("ChartQA_TEST", Question("0", "?", answer), response) == value
    if "[" not in answer and "<think>" not in response:
        assert relaxed.agrees(response, answer) == value


@pytest.mark.parametrize(("kind", "precision", "answer", "response", "value"), [row[:5] for row in CASES["typed"]])
def test_typed(kind, precision, answer, response, value):
    details = {"question_type": "free_form", "answer_type": kind}
    if precision is not None:
        details["precision"] = str(precision)
    question = Question("0", "?", answer, details=details)
    assert scored("MathVista_MINI", question, response) == value
    told = typed.judge_reply(question, response)
    if told is not None:
        assert typed.value(question, told) == value


@pytest.mark.parametrize(("choices", "answer", "response", "value"), [row[:4] for row in CASES["typed choices"]])
def test_typed_choices(choices, answer, response, value):
    details = {"question_type": "multi_choice", "answer_type": "text"}
    assert scored("MathVista_MINI", Question("0", "?", answer, lettered(choices), details=details), response) == value


@pytest.mark.parametrize(("answer", "response", "value"), [row[:3] for row in CASES["open"]])
def test_open_answers(answer, response, value):
    question = Question("0", "?", answer)
    assert scored("MMMU_DEV_VAL", question, response) == value
    assert open_answers.judge_prompt(question, response, "", ()) is None


@pytest.mark.parametrize(("answer", "response", "value"), [row[:3] for row in CASES["last line"]])
@pytest.mark.parametrize("name", ["MMMU_Pro_10c", "MMMU_Pro_V"])
def test_last_line(name, answer, response, value):
    options = lettered(OPTIONS["N"]) if name == "MMMU_Pro_10c" else {}
    assert scored(name, Question("0", "?", answer, options), response) == value


@pytest.mark.parametrize(("reply", "grade"), [row[:2] for row in CASES["grades"]])
def test_grades(reply, grade):
    question = Question("0", "?", "red")
    told = graded.judge_reply(question, reply)
    assert (None if told is None else graded.value(question, told)) == grade


@pytest.mark.parametrize(("answer", "response", "value"), [row[:3] for row in CASES["yes or no"]])
def test_yes_or_no(answer, response, value):
    question = Question("0", "?", answer)
    word = yes_no.extract(question, response)
    assert (0 if word is None else yes_no.value(question, word)) == value


def test_a_score_of_rotated_questions_is_the_mean_over_questions():
    """Groups 1, 0, 1, 1 of four rows with 4, 3, 4, 4 right: 75 %, not the rows' 93.75 %."""
    options = lettered(OPTIONS["N"])
    questions = [
        Question(str(g + r * 1_000_000), "?", "A", options, cluster=str(g)) for g in range(4) for r in range(4)
    ]
    answers = {question.index: Answer("A") for question in questions} | {"2000001": Answer("B")}
    found = score(file_of("MMBench_TEST_EN", questions), answers)
    assert (found.value, found.interval.n, found.rows) == (0.75, 4, 16)


def test_chartqa_is_the_mean_over_rows():
    """Human 1 of 2 and augmented 4 of 4: 83.33 %, not the mean of the splits, 75 %; these stand beside it."""
    splits = ["test_human"] * 2 + ["test_augmented"] * 4
    questions = [Question(str(i), "?", "5", split=split, cluster=str(i)) for i, split in enumerate(splits)]
    answers = {str(i): Answer("5" if i else "6") for i in range(6)}
    found = score(file_of("ChartQA_TEST", questions), answers)
    assert found.value == pytest.approx(5 / 6)
    assert found.parts["split"] == {"test_augmented": (1.0, 4), "test_human": (0.5, 2)}


def test_the_papers_average_is_the_plain_mean_of_its_columns():
    assert all(len(figures) == len(COLUMNS) for shown in (AS_IT_IS, TRAINED) for figures in shown.values())
    assert set(AS_IT_IS) == set(TRAINED)
    assert sum(AS_IT_IS["Qwen2.5-VL-7B"]) == pytest.approx(907.2)
    assert round(sum(AS_IT_IS["Qwen2.5-VL-7B"]) / len(COLUMNS), 1) == 69.8


@pytest.mark.parametrize(
    ("path", "as_it_is", "trained"),
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct", 63.9, 74.9),
        ("/models/Qwen3-VL-8B-Instruct@main/", 70.9, 79.7),
        ("OpenGVLab/InternVL3-8B-hf", 68.2, 82.0),
        ("OpenGVLab/InternVL3_5-2B-HF", 62.7, 70.7),
        ("Qwen/Qwen2.5-VL-72B-Instruct", None, None),
        ("models/tiny/student", None, None),
    ],
)
def test_what_the_paper_prints_of_a_model(path, as_it_is, trained):
    star = benchmark_named("MMStar")
    found = [printed(star, path), printed(star, path, trained=True)]
    assert [value if value is None else round(100 * value, 1) for value in found] == [as_it_is, trained]
