import base64
import csv
import hashlib
import pickle
import tracemalloc
from dataclasses import replace

import pytest

from masters.benchmarks import BENCHMARKS, benchmark_named, read
from masters.benchmarks.facts import OTHER_FILES
from tests.unit.benchmarks.tables import cell, make, picture, rows_of, write

BLINK, MMSTAR, MMBENCH = (benchmark_named(name) for name in ("BLINK", "MMStar", "MMBench_DEV_EN"))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_benchmarks_layout_is_read(name, tmp_path):
    benchmark, rows = BENCHMARKS[name], rows_of(name)
    path = make(name, tmp_path)
    file = read(benchmark, str(path))
    kept = [row for row in rows if not benchmark.split or row["split"] == benchmark.split]
    assert len(file.questions) == len(kept) >= 4
    assert [q.index for q in file.questions] == [row["index"] for row in kept]
    assert [q.answer for q in file.questions] == [row["answer"] for row in kept]
    assert file.md5 == hashlib.md5(path.read_bytes()).hexdigest()
    assert not any(question.images for question in file.questions)
    assert all(question.images and question.images[0][:4] == b"\x89PNG" for question in file.with_images())
    assert any("the score is of another file" in remark for remark in file.remarks)
    assert not any("right answer is none" in remark for remark in file.remarks)
    folder = read(benchmark, str(tmp_path))  # a folder of all tables
    assert folder.questions == file.questions


def test_a_folder_of_several_tables_gives_the_benchmarks_own(tmp_path):
    for name in ("MMStar", "BLINK"):
        make(name, tmp_path)
    assert len(read(BLINK, str(tmp_path)).questions) == 5
    with pytest.raises(ValueError, match=r"no ChartQA_TEST\.tsv in this folder"):
        read(benchmark_named("ChartQA_TEST"), str(tmp_path))


def test_several_images_and_a_list_of_one(tmp_path):
    rows = rows_of("BLINK")[:2]
    rows[0]["image"] = str([cell(0)])
    rows[1]["image"] = cell(3, 1, 2)
    asked = list(read(BLINK, str(write(tmp_path / "x.tsv", rows))).with_images())
    assert asked[0].images == (picture(0),)
    assert asked[1].images == (picture(3), picture(1), picture(2))


def test_rows_that_name_the_row_of_their_image(tmp_path):
    file = read(MMBENCH, str(make("MMBench_DEV_EN", tmp_path)))
    by_index = {question.index: question for question in file.with_images()}
    assert by_index["2000003"].images == by_index["3"].images == (picture(3),)
    assert by_index["2000003"].cluster == by_index["3"].cluster != by_index["2"].cluster
    assert by_index["2000003"].group == by_index["3"].group == "3"
    backwards = write(tmp_path / "x.tsv", rows_of("MMBench_DEV_EN")[::-1])
    assert {q.index: q.images for q in read(MMBENCH, str(backwards)).with_images()} == {
        index: question.images for index, question in by_index.items()
    }


def test_any_part_of_the_questions_and_in_another_process(tmp_path):
    file = read(MMBENCH, str(make("MMBench_DEV_EN", tmp_path)))
    whole = list(file.with_images())
    sent = pickle.loads(pickle.dumps(file))
    assert [*sent.with_images(0, 3), *sent.with_images(3, 9), *sent.with_images(9)] == whole


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_words_that_pandas_takes_for_nothing_are_text_and_only_empty_cells_are_not_there(tmp_path, line_end):
    rows = rows_of("MMStar")
    rows[0] |= {"A": "None", "B": "NA", "C": "nan", "D": "", "answer": "A"}
    rows[1] |= {"A": "x\ty", "B": 'a "quoted" one', "C": "two\nlines", "D": "null", "question": "NULL"}
    file = read(MMSTAR, str(write(tmp_path / "x.tsv", rows, line_end)))
    assert dict(file.questions[0].options) == {"A": "None", "B": "NA", "C": "nan"}
    assert dict(file.questions[1].options) == {"A": "x\ty", "B": 'a "quoted" one', "C": "two\nlines", "D": "null"}
    assert file.questions[1].question == "NULL"
    assert [q.index for q in file.questions] == ["0", "1", "2", "3", "4"]


def test_only_the_split_counts_and_rows_of_another_may_hold_its_images(tmp_path):
    rows = rows_of("MMMU_DEV_VAL")
    rows[1]["image"] = rows[0]["index"]
    file = read(benchmark_named("MMMU_DEV_VAL"), str(write(tmp_path / "x.tsv", rows)))
    assert {question.split for question in file.questions} == {"validation"}
    assert next(file.with_images()).images == (picture(0),)


def without(rows, column):
    return [{name: text for name, text in row.items() if name != column} for row in rows]


def changed(rows, place, **cells):
    return [row | cells if i == place else row for i, row in enumerate(rows)]


BROKEN = {
    # what is done to the rows: (benchmark, rows, message)
    "no image column": (
        "MMStar",
        lambda r: without(r, "image"),
        r"columns are missing: image\. MMStar\.tsv of VLMEvalKit",
    ),
    "no options": ("MMStar", lambda r: without(without(r, "A"), "B"), "columns are missing: A, B"),
    "no answer column": ("MMVet", lambda r: without(r, "answer"), "columns are missing: answer"),
    "no question column": ("BLINK", lambda r: without(r, "question"), "columns are missing: question"),
    "no index column": ("BLINK", lambda r: without(r, "index"), "columns are missing: index"),
    "no split column": ("MMMU_DEV_VAL", lambda r: without(r, "split"), "columns are missing: split"),
    "no types": ("MathVista_MINI", lambda r: without(r, "answer_type"), "columns are missing: answer_type"),
    "base64 with a stranger": (
        "MMStar",
        lambda r: changed(r, 2, image=cell(2)[:-9] + "%" * 9),
        r"row 3: image is no base64",
    ),
    "base64 cut off": (
        "MMStar",
        lambda r: changed(r, 2, image=cell(2)[:-5].rstrip("=")[:301]),
        r"row 3: image is no base64",
    ),
    "list cut off": ("BLINK", lambda r: changed(r, 1, image=cell(1, 2)[:-9]), "row 2: a list cannot be read"),
    "list that is code": (
        "BLINK",
        lambda r: changed(r, 1, image="[__import__('os').getcwd()]"),
        "row 2: a list cannot",
    ),
    "empty list": ("BLINK", lambda r: changed(r, 1, image="[]"), "row 2: image is an empty list"),
    "image of no row": (
        "MMStar",
        lambda r: changed(r, 3, image="77"),
        "row 4: its image is that of row '77', which has",
    ),
    "image of a row without": (
        "MMStar",
        lambda r: changed(changed(r, 3, image="1"), 1, image=""),
        "row 4: its image is",
    ),
    "index twice": ("MMStar", lambda r: changed(r, 4, index="1"), r"row 5: index stands twice \(1, also in row 2\)"),
    "64 characters": ("MMStar", lambda r: changed(r, 2, image="7" * 64), "row 3: its image is that of row '777"),
    "65 characters": ("MMStar", lambda r: changed(r, 2, image="7" * 65), "row 3: image is no base64"),
    "index twice, with a blank": ("MMStar", lambda r: changed(r, 4, index="1 "), "row 5: index stands twice"),
    "index empty": ("MMStar", lambda r: changed(r, 4, index=""), "row 5: index is empty"),
    "answer empty": ("ChartQA_TEST", lambda r: changed(r, 0, answer=""), "row 1: answer is empty"),
    "question empty": ("ChartQA_TEST", lambda r: changed(r, 0, question=" "), "row 1: question is empty"),
    "rotation missing": ("MMBench_DEV_EN", lambda r: r[:-1], "question 3: rotations are missing"),
    "rotation in the middle": (
        "MMBench_DEV_EN",
        lambda r: [row for row in r if row["index"] != "1000002"],
        "question 2: rotations are missing",
    ),
    "rotated index is a name": (
        "MMBench_DEV_EN",
        lambda r: changed(r, 0, index="a"),
        "row 1: index is no whole number",
    ),
    "choices are no list": ("MathVista_MINI", lambda r: changed(r, 0, choices="29, 34"), "row 1: choices are no list"),
    "too many choices": (
        "MathVista_MINI",
        lambda r: changed(r, 0, choices=str(list(range(27)))),
        "more than 26 options",
    ),
    "no rows of the split": ("MMMU_DEV_VAL", lambda r: r[:1], "no rows of split validation"),
}


def test_twenty_six_choices_are_not_too_many(tmp_path):
    rows = changed(rows_of("MathVista_MINI"), 0, choices=str(list(range(26))), answer="25")
    options = read(benchmark_named("MathVista_MINI"), str(write(tmp_path / "x.tsv", rows))).questions[0].options
    assert (len(options), options["Z"]) == (26, "25")


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_and_its_rows_are_named(case, tmp_path):
    name, breaks, message = BROKEN[case]
    path = write(tmp_path / "x.tsv", breaks(rows_of(name)))
    with pytest.raises(ValueError, match=message) as error:
        read(benchmark_named(name), str(path))
    assert str(path) in str(error.value)


def test_all_broken_rows_are_counted(tmp_path):
    rows = [{**rows_of("MMStar")[0], "index": str(i), "image": "?" * 80} for i in range(9)]
    with pytest.raises(
        ValueError, match=r"9 rows cannot be used: row 1: .*; row 5: .*; and 4 more\. .*fetch the file again"
    ):
        read(MMSTAR, str(write(tmp_path / "x.tsv", rows)))


def test_lines_that_are_no_rows_are_named(tmp_path):
    path = make("MMStar", tmp_path)
    with path.open("a") as file:
        file.write("7\tonly two\n")
    with pytest.raises(ValueError, match=r"1 rows cannot be used: row 6: is no row \(2 fields for 9 columns"):
        read(MMSTAR, str(path))


def test_bytes_that_are_no_text_are_named(tmp_path):
    path = make("MMStar", tmp_path)
    path.write_bytes(path.read_bytes().replace(b"What colour is square 2", b"What colour is square \xff"))
    with pytest.raises(ValueError, match=r"1 rows cannot be used: row 3: question is no UTF-8"):
        read(MMSTAR, str(path))


def test_what_is_odd_and_does_not_stop_a_file_is_remarked(tmp_path):
    rows = changed(changed(rows_of("MMStar"), 1, image=""), 3, answer="E")
    file = read(MMSTAR, str(write(tmp_path / "x.tsv", rows)))
    assert any(remark == "1 questions have no image and are asked without: 1" for remark in file.remarks)
    assert any(remark.endswith("none of their options, always wrong: 3") for remark in file.remarks)
    assert any(remark == "5 rows count, 1,500 were expected" for remark in file.remarks)
    asked = list(file.with_images())
    assert [len(question.images) for question in asked] == [1, 0, 1, 1, 1]
    assert len({question.cluster for question in asked}) == 5


@pytest.mark.parametrize(("name", "answer"), [("MMMU_Pro_10c", "K"), ("MathVista_MINI", "99"), ("MMMU_DEV_VAL", "E")])
def test_a_right_answer_that_is_no_option_is_remarked_for_every_kind_of_choice(name, answer, tmp_path):
    rows = rows_of(name)
    place = 1 if name == "MMMU_DEV_VAL" else 0
    file = read(benchmark_named(name), str(write(tmp_path / "x.tsv", changed(rows, place, answer=answer))))
    assert (
        f"1 questions whose right answer is none of their options, always wrong: {rows[place]['index']}" in file.remarks
    )


def test_further_columns_are_kept_and_empty_ones_left_out(tmp_path):
    question = read(benchmark_named("MathVista_MINI"), str(make("MathVista_MINI", tmp_path))).questions[1]
    assert question.details == {"question_type": "free_form", "answer_type": "integer", "precision": "0"}


def test_the_right_file_has_no_remarks_and_is_believed_about_its_rotations(tmp_path):
    path = write(tmp_path / "x.tsv", rows_of("MMBench_DEV_EN")[:-1])
    genuine = replace(MMBENCH, md5=hashlib.md5(path.read_bytes()).hexdigest(), rows=13, questions=4)
    assert read(genuine, str(path)).remarks == ("1 questions have not one row for each option: 3",)
    assert "5 questions were expected" in "".join(read(replace(genuine, questions=5), str(path)).remarks).replace(
        "4 questions, 5 were", "5 questions were"
    )


def test_a_file_that_is_easily_taken_for_another_is_named(tmp_path, monkeypatch):
    path = make("BLINK", tmp_path)
    monkeypatch.setitem(OTHER_FILES, hashlib.md5(path.read_bytes()).hexdigest(), "another task")
    assert "(another task), not d5e8af" in read(BLINK, str(path)).remarks[0]


def test_memory_does_not_grow_with_the_file(tmp_path):
    """40 images of 1 MB: neither reading nor walking through them holds more than a few."""
    path, text = tmp_path / "x.tsv", base64.b64encode(b"\x89PNG" + bytes(1 << 20)).decode()
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["index", "question", "A", "B", "answer", "image"])
        writer.writerows([i, "?", "x", "y", "A", text] for i in range(40))
    tracemalloc.start()
    try:
        file = read(MMSTAR, str(path))
        assert sum(len(question.images[0]) for question in file.with_images()) == 40 * ((1 << 20) + 4)
        assert tracemalloc.get_traced_memory()[1] < 30 << 20
    finally:
        tracemalloc.stop()
