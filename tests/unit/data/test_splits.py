import pytest

from masters.data.splits import file_splits, known_split, split_names


@pytest.mark.parametrize(
    ("file", "split"),
    [
        ("data/train-00000-of-00002.parquet", "train"),
        ("train.jsonl", "train"),
        ("train_sft-00000.parquet", "train"),
        ("training/a.json", "train"),
        ("annotations/train2014.json", "train"),
        ("data/validation-00000-of-00001.parquet", "validation"),
        ("validation/x.json", "validation"),
        ("val/1/2.parquet", "validation"),
        ("DEV.tsv", "validation"),
        ("valid.json.gz", "validation"),
        ("data/test-00000-of-00001.parquet", "test"),
        ("MyData_testmini.jsonl", "test"),
        ("a testing set.json", "test"),
        ("evaluation/a.json", "test"),
        ("eval.json", "test"),
        ("train/test.json", "test"),  # the nearer name
        ("test/part-0.json", "test"),
        ("latest.json", ""),
        ("contest/trains.json", ""),
        ("val1d.json", ""),
        ("data.json", ""),
        ("prüftest.json", ""),
        ("train_small/0.json", "skip"),  # own words from here on
        ("train_small-0.json", "skip"),
        ("train_smaller-0.json", "train"),
        ("minival.json", "validation"),
        ("train_dev.json", "validation"),
        ("test/hard.json", "train"),
    ],
)
def test_what_a_files_name_says(file, split):
    own = {"train_small": "skip", "minival": "validation", "train_dev": "validation", "dev_": "test", "hard": "train"}
    assert split_names([file], own) == {file: split}


def test_a_name_that_says_two_splits_is_refused_with_the_remedy():
    with pytest.raises(
        ValueError, match=r"^d/train_val\.json: its name says train and val\. Map it by splits: \{train_val: "
    ):
        split_names(["d/train_val.json"], {})
    assert split_names(["d/train_val.json"], {"train_val": "train"}) == {"d/train_val.json": "train"}
    assert split_names(["val_dev.json"], {}) == {"val_dev.json": "validation"}


@pytest.mark.parametrize(
    ("value", "split"),
    [
        *[(word, "train") for word in ("train", "Train", " training ", "train_sft")],
        *[(word, "validation") for word in ("val", "valid", "validation", "dev")],
        *[(word, "test") for word in ("test", "TESTING", "testmini", "eval", "evaluation", "test_sft")],
        ("extra", "train"),
        ("train_small", "skip"),
        ("minitest", "test"),
        (3, "validation"),
    ],
)
def test_what_a_row_calls_its_split(value, split):
    assert known_split(value, {"extra": "train", "train_small": "skip", "minitest": "test", "3": "validation"}) == split


def test_own_words_come_first():
    assert known_split("dev", {"dev": "test"}) == "test"


@pytest.mark.parametrize("value", ["Extra", "", None, "my test", True, ["train"]])
def test_unknown_splits_of_rows(value):
    with pytest.raises(KeyError):
        known_split(value, {"extra": "train"})


TRAIN, TEST, NONE = "data/train-0.parquet", "data/test-0.parquet", "data/0.parquet"


@pytest.mark.parametrize(
    ("files", "own", "split", "expected"),
    [
        ([TRAIN, TEST], {}, None, {TRAIN: "train", TEST: "test"}),
        ([NONE], {}, None, {NONE: ""}),
        ([NONE], {}, "test", {NONE: "test"}),
        ([TRAIN], {}, "test", {TRAIN: "test"}),
        ([TRAIN, NONE], {}, "train", {TRAIN: "train", NONE: "train"}),
        ([TRAIN, TEST], {"test": "skip"}, "train", {TRAIN: "train"}),
        ([TRAIN, TEST], {"test": "train"}, "train", {TRAIN: "train", TEST: "train"}),
        ([TRAIN, NONE], {"0": "train"}, None, {TRAIN: "train", NONE: "train"}),
    ],
)
def test_splits_of_the_files_of_a_source(files, own, split, expected):
    assert file_splits(files, own, split) == expected


@pytest.mark.parametrize(
    ("files", "own", "split", "words"),
    [
        (
            [TRAIN, TEST],
            {},
            "train",
            f"split = train: .*{TRAIN} .train., {TEST} .test.. Remove split, or name one file",
        ),
        (
            [TRAIN, NONE, TEST],
            {},
            None,
            f"some files .*{TRAIN} .train., {TEST} .test., {NONE} .none.. Map .*{{0: train}}",
        ),
        ([TRAIN], {"train": "skip"}, None, f"every file is skipped, such as {TRAIN}"),
    ],
)
def test_files_whose_splits_nobody_can_tell_are_refused_by_name(files, own, split, words):
    with pytest.raises(ValueError, match=words):
        file_splits(files, own, split)
