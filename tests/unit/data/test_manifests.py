from dataclasses import replace

from masters.data.manifests import differences, in_words, new_manifest, read_manifest, write_manifest
from masters.data.storage import Storage

PARTS = {
    "generate": {"temperature": 1.0, "mix": {"teacher": 4}},
    "ratios": ["0.20", "0.00"],
    "inputs": {"mask": "abc"},
}


def test_the_digest_depends_on_every_part_and_on_nothing_else():
    digest = new_manifest("generate", PARTS).digest
    assert digest == new_manifest("generate", dict(reversed(PARTS.items()))).digest
    changed = [
        {**PARTS, "generate": {"temperature": 0.8, "mix": {"teacher": 4}}},
        {**PARTS, "generate": {"temperature": 1.0, "mix": {"teacher": 3}}},
        {**PARTS, "ratios": ["0.00", "0.20"]},
        {**PARTS, "inputs": {"mask": "abd"}},
    ]
    assert len({digest, *(new_manifest("generate", parts).digest for parts in changed)}) == 5


def test_a_manifest_survives_the_file(tmp_path):
    run = Storage(str(tmp_path))
    assert read_manifest(run, "generate") is None
    manifest = replace(new_manifest("generate", PARTS), status="done", counts={"rows": 3}, seconds=1.5)
    write_manifest(run, manifest)
    read = read_manifest(run, "generate")
    assert replace(read, finished="") == manifest
    assert read.finished.endswith("Z")


def test_differences_say_what_changed():
    old = new_manifest("generate", PARTS).parts
    new = new_manifest(
        "generate",
        {
            "generate": {"temperature": 0.8, "top_p": 0.9},
            "ratios": ["0.20", "0.00"],
            "inputs": {"mask": "abc"},
        },
    ).parts
    changes = differences(old, new)
    assert changes == [
        "generate.mix.teacher is gone (was 4)",
        "generate.temperature was 1.0, is 0.8",
        "generate.top_p is new: 0.9",
    ]
    assert (
        in_words(changes, 2) == "generate.mix.teacher is gone (was 4); generate.temperature was 1.0, is 0.8; and 1 more"
    )
