"""A recipe against a release: storage, mounts, images, places; and that no manifest is made from guesses."""

import json
import stat
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from masters.cli import app
from masters.cluster import release as installed
from masters.config.load import validate
from masters.config.placement import read_values
from masters.config.problems import RecipeError
from masters.config.yaml_files import laid_over

RECIPE = {
    "name": "x",
    "storage": "/runs",
    "student": {"path": "Qwen/Qwen2.5-VL-3B-Instruct"},
    "curriculum": [{"alias": "big", "path": "Qwen/Qwen2.5-VL-7B-Instruct"}],
    "prepare": {"sources": [{"type": "charts"}]},
    "score": {"judge": {"type": "rule"}},
}
GPUS = {"student": {"path": "a/s", "gpus_per_engine": 1}}
ON_GPUS = {
    **GPUS,
    "resources": {name: {"labels": {"ray.io/node-group": "generate"}} for name in ("generate", "evaluate")},
}
NAS = {"extraVolumes": [{"name": "nas", "nfs": {"server": "n", "path": "/p"}}]}


def at(path, volume="nas", **more):
    return {"extraVolumeMounts": [{"name": volume, "mountPath": path, **more}]}


def volume(kind):
    return {"extraVolumes": [{"name": "nas", kind: {}}]}


DISAGREE = {  # recipe's fields, values -> what is said
    "a folder beside the claim": (
        {"storage": "/data/runs"}, {},
        "storage = /data/runs: is a folder of each pod and ends with it: storage.kind of the release is pvc; volumes of all pods: /runs, /models. Use /runs.",
    ),
    "a folder that only begins alike": ({"storage": "/runs2"}, {}, "storage = /runs2: is a folder of each pod"),
    "the claim is elsewhere": ({}, {"storage": {"pvc": {"mountPath": "/mnt/r"}}}, "storage = /runs: is a folder of each pod"),
    "runs in a bucket": ({}, {"storage": {"kind": "s3"}, "modelCache": {"kind": "emptyDir"}}, "storage.kind of the release is s3; volumes of all pods: none. Use s3://BUCKET/FOLDER."),
    "runs in the other cloud's bucket": ({"storage": "s3://b/r"}, {"storage": {"kind": "gcs"}}, "storage = s3://b/r: is in a bucket, and storage.kind of the release is gcs: its pods get no keys, region or endpoint. Set storage.kind: s3."),
    "a bucket where a claim is": ({"storage": "gs://b/r"}, {}, "storage = gs://b/r: is in a bucket, and storage.kind of the release is pvc: its pods get no keys, region or endpoint. Set storage.kind: gcs, or use /runs."),
    "a relative folder": ({"storage": "runs"}, {}, "storage = runs: is relative: on a cluster it would be a folder of one pod"),
    "a file address": ({"storage": "file:///data"}, {}, "storage = file:///data: is a folder of each pod"),
    "the mirror": ({"hub_mirror": "/mirror"}, {}, "hub_mirror = /mirror: is a folder of each pod"),
    "verdicts that runs share": ({"score": {"judge": {"type": "rule"}, "cache": "/verdicts"}}, {}, "score.cache = /verdicts: is a folder of each pod"),
    "a run elsewhere": ({"from_run": "/old/run"}, {}, "from_run = /old/run: is a folder of each pod"),
    "a volume of each pod": ({"storage": "/s/r"}, volume("emptyDir") | at("/s"), "storage = /s/r: extraVolumeMounts[0] is a volume of each pod, which ends with it. Use /runs."),
    "a folder of each node": ({"storage": "/s"}, volume("hostPath") | at("/s"), "storage = /s: extraVolumeMounts[0] is a folder of each node"),
    "a volume nobody may write": ({"storage": "/s"}, NAS | at("/s", readOnly=True), "storage = /s: extraVolumeMounts[0] is mounted read-only. Use /runs."),
    "a volume within the claim": ({"storage": "/runs/s"}, volume("emptyDir") | at("/runs/s"), "storage = /runs/s: extraVolumeMounts[0] is a volume of each pod"),
    "the cache of each pod": ({"storage": "/models/r"}, {"modelCache": {"kind": "emptyDir"}}, "storage = /models/r: modelCache.mountPath ends with its pod"),
    "an older image": ({}, {"images": {"cpu": "r/masters:0.0.9-cpu"}}, "images.cpu = r/masters:0.0.9-cpu: is Masters 0.0.9, and this is 0.1.0: fields and digests of the two may differ. Build and name 0.1.0, or use Masters 0.0.9 here."),
    "a newer image of a group": ({}, {"workerGroups": {"judge": {"image": "r/m:v9.0.0-cpu"}}}, "workerGroups.judge.image = r/m:v9.0.0-cpu: is Masters 9.0.0"),
    "GPUs on the cpu image": (ON_GPUS, {"images": {"gpu": "masters:0.1.0-cpu"}}, 'images.gpu = masters:0.1.0-cpu: is an image without CUDA, and group "generate" has GPUs. Name an image of the target `gpu`'),
    "GPUs on another cpu image": (ON_GPUS, {"images": {"gpu": "r/masters:team-7-cpu"}}, "images.gpu = r/masters:team-7-cpu: is an image without CUDA"),
    "a group's GPUs on the cpu image": (ON_GPUS, {"images": {"cpu": "r/x:mine"}, "workerGroups": {"train": {"image": "r/x:mine"}}}, 'workerGroups.train.image = r/x:mine: is an image without CUDA, and group "train" has GPUs'),
    "no such group": ({"resources": {"score": {"labels": {"ray.io/node-group": "judges"}}}}, {}, "stage score: no group carries these labels"),
}  # fmt: skip
AGREE = {
    "as it is": ({}, {}),
    "below the claim": ({"storage": "/runs/team/a", "hub_mirror": "/runs/models"}, {}),
    "a bucket": ({"storage": "s3://b/r"}, {"storage": {"kind": "s3"}}),
    "the other": ({"storage": "gs://b/r"}, {"storage": {"kind": "gcs"}}),
    "a cloud identity": ({"storage": "s3://b/r"}, {"serviceAccounts": {"worker": {"annotations": {"a": "b"}}}}),
    "keys by Secret": ({"storage": "s3://b/r"}, {"secretEnv": {"AWS_ACCESS_KEY_ID": {"secret": "s", "key": "k"}}}),
    "a volume of one's own": ({"storage": "/s/r"}, {"storage": {"kind": "s3"}} | NAS | at("/s")),
    "a run by name": ({"from_run": "old"}, {}),
    "an image whose tag says no version": ({}, {"images": {"cpu": "r/m:team-7", "gpu": "r/m@sha256:" + "0" * 64}}),
    "no GPUs are wanted": ({}, {"images": {"gpu": "masters:0.1.0-cpu"}}),
    "a disabled group's image": (ON_GPUS, {"workerGroups": {"train": {"enabled": False, "image": "r/m:0.0.1-cpu"}}}),
}  # fmt: skip


@pytest.fixture
def problems(tmp_path):
    def problems(fields, values):
        (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
        found = installed.find("", "", [tmp_path / "values.yaml"])
        return [str(problem) for problem in installed.problems(validate({**RECIPE, **fields}), found)]

    return problems


@pytest.mark.parametrize("name", DISAGREE)
def test_what_does_not_go_with_the_release_is_said_with_field_value_rule_and_remedy(problems, name):
    fields, values, message = DISAGREE[name]
    assert sum(message in line for line in problems(fields, values)) == 1, problems(fields, values)


@pytest.mark.parametrize("name", AGREE)
def test_what_goes_with_it_passes(problems, name):
    assert problems(*AGREE[name]) == []


@pytest.fixture
def helm(tmp_path, monkeypatch):
    """helm(what it does, in Python) -> the file of its arguments."""

    def helm(body):
        place = tmp_path / "bin"
        place.mkdir(exist_ok=True)
        code = f"#!{sys.executable}\nimport sys\nopen({str(tmp_path / 'argv')!r}, 'w').write(' '.join(sys.argv[1:]))\n{body}\n"
        (place / "helm").write_text(code)
        (place / "helm").chmod(stat.S_IRWXU)
        monkeypatch.setenv("PATH", str(place))
        return tmp_path / "argv"

    return helm


def printing(values):
    return f"print({json.dumps(values)!r})"


def test_a_release_is_asked_for_all_of_its_values_and_rendered_from_them(helm):
    """Also those that were the chart's own when it was installed, as its images; and a group that was taken away stays away."""
    values = read_values(())
    values["images"]["gpu"] = "theirs:1"
    del values["workerGroups"]["generate-ondemand"]
    asked = helm(printing(values))
    with installed.agreed(validate(RECIPE), "r", "lab", "team", ()) as files:
        assert asked.read_text() == "get values lab --all --output json --namespace team"
        assert read_values(files) == values
        (file,) = files
        assert file.stat().st_mode & 0o077 == 0
    assert not file.exists()


def test_a_release_that_does_not_agree_is_not_rendered(helm):
    values = read_values(())
    values["storage"]["kind"] = "s3"
    helm(printing(values))
    told = pytest.raises(RecipeError, match=r"(?s)^r: storage = /runs: .*nothing was started")
    with told, installed.agreed(validate(RECIPE), "r", "lab", "", ()):
        raise AssertionError


def test_a_stage_of_its_own_needs_no_place_for_the_others(tmp_path):
    (tmp_path / "v.yaml").write_text("workerGroups: {judge: {cpus: 4}}")
    labels = {"ray.io/node-group": "nowhere"}
    config = validate({**RECIPE, "resources": {"generate": {"labels": labels}, "prepare": {"labels": {}}}})
    with installed.agreed(config, "r", "lab", "", [tmp_path / "v.yaml"], "prepare") as files:
        assert files == [tmp_path / "v.yaml"]
    for stage in ("generate", None):
        told = pytest.raises(RecipeError, match="stage generate: no group carries")
        with told, installed.agreed(config, "r", "lab", "", [tmp_path / "v.yaml"], stage):
            raise AssertionError


UNREAD = {  # helm -> what is said
    "sys.exit('Error: release: not found')": r"`helm get values lab --all --output json`: Error: release: not found\. Give the values that",
    "sys.exit('Error: Kubernetes cluster unreachable')": "cluster unreachable. Give the values that it was installed with: --values",
    "print('null')": "gave no values of this chart. Is lab a release of it",
    "print('{\"replicas\": 1}')": "gave no values of this chart",
    "print('no JSON')": "gave no values of this chart",
}


@pytest.mark.parametrize("body", UNREAD)
def test_a_release_that_cannot_be_read_is_said_with_the_remedy(helm, body):
    helm(body)
    with pytest.raises(ValueError, match=UNREAD[body]):
        installed.find("lab", "", ())


def test_without_helm_it_is_said(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        ValueError, match=r"helm is not on PATH.* Install it\. Give the values .*: --values values\.yaml\."
    ):
        installed.find("lab", "", ())


GUESSES = {  # release, files -> what is said
    ("", ()): "which release? Its images, volumes and groups are not guessed",
    ("", ("v.yaml",)): "--manifest: which release? Its accounts, claims and Secrets are called after it",
}


@pytest.mark.parametrize("given", GUESSES)
def test_nothing_is_made_from_guesses(given):
    release, files = given
    told = pytest.raises(ValueError, match=GUESSES[given].replace("?", r"\?"))
    with told, installed.agreed(validate(RECIPE), "r", release, "", [Path(file) for file in files]):
        raise AssertionError


def test_paths_that_the_image_must_have_are_said(tmp_path):
    (tmp_path / "v.yaml").write_text(yaml.safe_dump(NAS | at("/data", readOnly=True)))
    sources = [
        {"type": "files", "name": name, "path": path}
        for name, path in (("a", "/data/a"), ("b", "/opt/b"), ("c", "/runs/c"), ("d", "s3://b/d"))
    ]
    config = validate({**RECIPE, "student": {"path": "/opt/student"}, "prepare": {"sources": sources}})
    found = installed.find("", "", [tmp_path / "v.yaml"])
    assert list(installed.lines_of_paths(config, found)) == [
        f"student.path = /opt/student: is on no volume of {tmp_path}/v.yaml; it must be in the image",
        f"prepare.sources[1].path = /opt/b: is on no volume of {tmp_path}/v.yaml; it must be in the image",
    ]


@pytest.fixture
def masters(tmp_path):
    """masters(arguments) -> exit status, what was printed; `RECIPE` is a file with fields laid over the recipe."""

    def masters(*arguments, comment="", **fields):
        (tmp_path / "mine.yaml").write_text(f"{comment}\n{json.dumps(laid_over(RECIPE, fields))}")
        given = [str(tmp_path / "mine.yaml") if one == "RECIPE" else str(one) for one in arguments]
        ended = CliRunner().invoke(app, given)
        return ended.exit_code, ended.output + (str(ended.exception) if ended.exit_code else "")

    return masters


LAB = ("--release", "lab", "-n", "team")


def test_check_asks_the_release(masters, helm):
    asked = helm(printing(read_values(())))
    status, said = masters("check", "RECIPE", *LAB)
    assert status == 0, said
    assert "release lab: every stage fits on its groups: judge, generate, train\n" in said
    assert asked.read_text() == "get values lab --all --output json --namespace team"
    status, said = masters("check", "RECIPE", *LAB, storage="/elsewhere")
    assert status == 1
    assert "mine.yaml: storage = /elsewhere: is a folder of each pod" in said
    status, said = masters("check", "RECIPE", *LAB, storage="/elsewhere", student={"path": "a"})
    assert "storage = /elsewhere" in said


def test_a_manifest_needs_a_release_and_its_values(masters, helm):
    helm("sys.exit('Error: release: not found')")
    for given, said in (
        ((), "which release? Its images, volumes and groups are not guessed. Name it"),
        (LAB, "Error: release: not found. Give the values that it was installed with: --values values.yaml."),
    ):
        status, printed = masters("submit", "RECIPE", "--manifest", *given)
        assert (status, said in printed) == (1, True), printed
        assert "RayJob" not in printed


@pytest.mark.parametrize(
    "command", [("check", "RECIPE"), ("submit", "RECIPE", "--manifest", *LAB), ("submit", "RECIPE", *LAB)]
)
def test_a_secret_in_a_comment_goes_nowhere(masters, command):
    status, said = masters(*command, comment="# of the old account: hf_" + "a" * 30)
    assert status == 1
    assert (
        "mine.yaml: line 1: holds what looks like a token of the hub (hf_...), and a recipe travels with its comments"
        in said
    )
    assert "aaaa" not in said
