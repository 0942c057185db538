"""Verdicts that runs share: found by content, never seen while a stage runs, never null."""

from masters.data.storage import Storage
from masters.judging.cache import VerdictCache, add_verdicts, verdict_key
from masters.judging.judges import Item, Verdict

ONE = Item("a/1", "Q?", ["red"], "text", "It is red")


def same_but(**fields):
    return Item(**{**vars(ONE), **fields})


def test_a_key_is_what_the_judge_is_told():
    assert verdict_key(ONE) == verdict_key(same_but(key="b/7")) == verdict_key(same_but(answers=["red", "crimson"]))
    others = [same_but(question="Q"), same_but(answers=["blue"]), same_but(response="It is red.")]
    assert len({verdict_key(item) for item in [ONE, *others]}) == 4
    choice = same_but(answer_type="choice", options=["red", "blue"])
    assert verdict_key(choice) != verdict_key(same_but(answer_type="choice", options=["blue", "red"]))


def test_what_was_added_is_found_and_a_view_of_the_files_stays_as_it_was(tmp_path):
    folder, keys = Storage(str(tmp_path)), [verdict_key(same_but(response=str(i))) for i in range(300)]
    add_verdicts(folder, "j", [(key, i % 2, f"words {i}") for i, key in enumerate(keys[:100])])
    add_verdicts(folder, "j", [(key, i % 2, f"words {i}") for i, key in enumerate(keys[100:200], 100)])
    add_verdicts(folder, "other", [(keys[250], 1, "not ours")])
    view = VerdictCache(folder, folder.names("j"))
    add_verdicts(folder, "j", [(keys[299], 1, "later")])
    found = view.find([*keys[::7], keys[299], keys[250]])
    assert found == {key: Verdict(i % 2, f"words {i}") for i, key in enumerate(keys) if i % 7 == 0 and i < 200}
    assert VerdictCache(folder, folder.names("j")).find(keys[299:]) == {keys[299]: Verdict(1, "later")}
    assert VerdictCache(folder, []).find(keys) == {}


def test_equal_content_is_one_file_and_of_two_verdicts_every_reader_takes_the_same(tmp_path):
    folder, key = Storage(str(tmp_path)), verdict_key(ONE)
    rows = [(key, 1, "right"), (verdict_key(same_but(question="other")), 0, "wrong")]
    for order in (rows, rows[::-1]):
        add_verdicts(folder, "j", order)
    assert len(folder.names("j")) == 1
    add_verdicts(folder, "j", [(key, 0, "changed its mind")])
    add_verdicts(folder, "j", [])
    names = folder.names("j")
    assert len(names) == 2
    assert VerdictCache(folder, names).find([key]) == VerdictCache(folder, names).find([key])
