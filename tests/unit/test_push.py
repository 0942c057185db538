"""masters push: what reaches the hub, that it is cheap the second time, and what stands against it, told with a remedy."""

import json
import shutil

import pytest
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from masters import cli
from masters.models import licence
from masters.models.push import Destination, push
from masters.reporting.card import TAG
from tests.finished import BEST, BY_LEVEL, STUDENT, copy_base, write_run
from tests.hub import Hub
from tests.hub_writing import Repository, WritableHub

TOKEN, NAME = "hf_secret0123456789", "me/tiny-student"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub where `me` has a token, asked by the real client in this process."""
    with WritableHub({}, tokens={TOKEN: "me"}) as hub:
        for name, value in {"ENDPOINT": hub.address, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def run_command(*arguments):
    """(exit status, what was printed, the error)."""
    done = CliRunner().invoke(cli.app, ["push", *map(str, arguments)])
    return done.exit_code, done.stdout, str(done.exception) if done.exception else ""


def test_a_student_and_its_card_are_pushed_once(hub, tmp_path):
    recipe, run = write_run(tmp_path / "runs")
    run.write("train/student/README.md", b"written by report")
    status, said, error = run_command(recipe, NAME)
    assert (status, error) == (0, "")
    assert f"pushed   {hub.address}/{NAME}\n" in said
    files = sum(1 for file in STUDENT.iterdir() if file.name != "training.json")
    assert f"files    {files + 1}, 0.001 GB, README.md with scores" in said
    assert "licence  not known" in said
    repository = hub.repositories[NAME]
    assert (repository.private, repository.commits) == (True, 1)
    there = dict(repository.branches["main"])
    assert there.pop("README.md").decode().count(NAME) >= 3
    assert there == {file.name: file.read_bytes() for file in STUDENT.iterdir() if file.name != "training.json"}
    assert not any(TOKEN.encode() in content for content in (*there.values(), said.encode()))
    assert run.read("train/student/README.md") == b"written by report"
    before = dict(hub.received)
    assert run_command(recipe, NAME)[0] == 0
    assert (hub.received, hub.repositories[NAME].commits) == (before, 1)
    run.write("train/student/generation_config.json", b"{}")
    assert run_command(recipe, NAME)[0] == 0
    assert (hub.received["lfs"], hub.received["regular"]) == (before["lfs"], before["regular"] + 2)


def test_a_branch_of_its_own(hub, tmp_path):
    recipe, _ = write_run(tmp_path / "runs", BY_LEVEL)
    status, said, _ = run_command(recipe, NAME, "--public", "--revision", "early", "--level", "big@r0.20")
    assert status == 0
    assert f"pushed   {hub.address}/{NAME}/tree/early\n" in said
    branches = hub.repositories[NAME].branches
    assert not hub.repositories[NAME].private
    assert branches["main"] == {}
    assert "model.safetensors" in branches["early"]
    assert "to `big@r0.20`" in branches["early"]["README.md"].decode()


def test_weights_of_an_earlier_push_go_and_what_people_added_stays(hub, tmp_path):
    folder = copy_base(tmp_path / "folder", README_md=f"---\ntags: [{TAG}]\n---\n")
    place = Destination(NAME, True, "", "HF_TOKEN")
    push(folder, place, TOKEN, TAG)
    hub.repositories[NAME].branches["main"] |= {"model-9.safetensors": b"old", "figure.png": b"mine"}
    push(folder, place, TOKEN, TAG)
    there = hub.repositories[NAME].branches["main"]
    assert ("model-9.safetensors" in there, "figure.png" in there, "model.safetensors" in there) == (False, True, True)


def test_an_upload_that_broke_off_goes_on(hub, tmp_path):
    hub.fail_lfs = 1
    recipe, _ = write_run(tmp_path / "runs")
    status, _, error = run_command(recipe, NAME)
    assert status
    assert error.startswith(
        f"{NAME}: the upload broke off (Error while uploading 'model.safetensors' to the Hub.). Try again"
    )
    assert run_command(recipe, NAME)[0] == 0


OURS = {"README.md": f"---\ntags: [{TAG}]\n---\n".encode(), "model.safetensors": b"x"}
REFUSED = {
    # name: (repositories that are there, name, options, token, what the error says)
    "a token that nobody has": ({}, NAME, [], "hf_wrong", "the hub does not know the token in HF_TOKEN. Make one"),
    "somebody else's name": ({}, "you/student", [], TOKEN, "the token in HF_TOKEN may not write there. Is you you"),
    "somebody else's repository": (
        {"you/student": Repository(False, {"main": OURS})}, "you/student", ["--public"], TOKEN, "may not write there",
    ),
    "somebody else's, unseen": ({"you/student": Repository(True, {"main": OURS})}, "you/student", [], TOKEN, "may not write there"),
    "another model": (
        {NAME: Repository(True, {"main": {"README.md": b"mine", "model.safetensors": b"x"}})}, NAME, [], TOKEN,
        "is there already, with a model that masters push did not bring there. Name another one",
    ),
    "open to everyone": ({NAME: Repository(False, {"main": OURS})}, NAME, [], TOKEN, "everyone can read it. Add --public"),
    "a name that is none": ({}, "me/a b", [], TOKEN, "me/a b: is no name for a model on the hub"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_hub_refuses(hub, tmp_path, monkeypatch, name):
    hub.repositories, place, options, token, said = REFUSED[name]
    before = json.dumps({key: sorted(found.branches["main"]) for key, found in hub.repositories.items()})
    monkeypatch.setenv("HF_TOKEN", token)
    recipe, _ = write_run(tmp_path / "runs")
    status, _, error = run_command(recipe, place, *options)
    assert status
    assert error.startswith(f"{place}: ")
    assert said in error
    assert token not in error
    assert json.dumps({key: sorted(found.branches["main"]) for key, found in hub.repositories.items()}) == before


def test_a_hub_that_is_away(hub, tmp_path, monkeypatch):
    with Hub({}) as gone:
        monkeypatch.setattr(constants, "ENDPOINT", gone.address)
    recipe, _ = write_run(tmp_path / "runs")
    status, _, error = run_command(recipe, NAME)
    assert status
    assert error.startswith(f"{NAME}: the upload broke off (")


NOT_READY = {
    # name: (overrides, stages that never ended, arguments, what the error says)
    "no student": ([], ("train", "evaluate"), [NAME], "has no student: train is not done"),
    "no scores": ([], ("evaluate",), [NAME], "its student was not evaluated, so nobody could say how good it is"),
    "no such level": (BY_LEVEL, (), [NAME, "--level", "big@r0.15"], "It keeps big@r0.20, big@r0.10, big@r0.00."),
    "no level at all": ([], (), [NAME, "--level", "big@r0.20"], "It keeps none by level (train.students_by_level)."),
    "no place": ([], (), [], "Name one place: OWNER/NAME on the hub, or --to FOLDER."),
    "two places": ([], (), [NAME, "--to", "x"], "Name one place"),
    "half a name": ([], (), ["student"], "student: is no name for a model on the hub. Write OWNER/NAME."),
    "a folder that is full": ([], (), ["--to", "masters"], "--to masters: is there already, and is no empty folder"),
    "a branch of a folder": ([], (), ["--to", "x", "--revision", "y"], "--revision is a branch on the hub"),
    "a run that is not there": ([], (), [NAME, "--set", "name=other"], "other: is no run directory"),
}


@pytest.mark.parametrize("name", NOT_READY)
def test_what_cannot_be_pushed(tmp_path, monkeypatch, name):
    overrides, undone, arguments, said = NOT_READY[name]
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody is asked
    recipe, _ = write_run(tmp_path / "runs", overrides, undone=undone)
    status, _, error = run_command(recipe, *arguments)
    assert status
    assert said in error


def test_without_a_token_nothing_is_tried(tmp_path, monkeypatch):
    monkeypatch.delenv("MY_TOKEN", raising=False)
    recipe, _ = write_run(tmp_path / "runs", ["hub_token_env=MY_TOKEN"])
    _, _, error = run_command(recipe, NAME)
    assert error.startswith("MY_TOKEN: is not set, and the hub wants a token with the right to write.")


def test_a_plain_folder_of_the_chosen_student(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    recipe, run = write_run(f"file://{tmp_path}/runs", BEST)
    weights = load_file(STUDENT / "model.safetensors")
    save_file({**weights, "more": weights["lm_head.weight"].clone()}, tmp_path / "other.safetensors")
    run.write("train/levels/big@r0.20/model.safetensors", (tmp_path / "other.safetensors").read_bytes())
    status, said, error = run_command(recipe, "--to", tmp_path / "out")
    assert (status, error) == (0, "")
    assert "train/levels/big@r0.20, trained to big@r0.20" in said
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (tmp_path / "other.safetensors").read_bytes()
    assert "best of 3 on 750 questions of validation" in (tmp_path / "out" / "README.md").read_text()


def test_without_scores_the_card_says_so(tmp_path):
    recipe, _ = write_run(tmp_path / "runs", undone=("evaluate",))
    status, said, _ = run_command(recipe, "--to", tmp_path / "out", "--without-scores")
    assert status == 0
    assert "README.md without scores" in said
    card = (tmp_path / "out" / "README.md").read_text()
    assert "This student was not evaluated." in card
    assert "model-index" not in licence.front_matter(card)


def test_a_run_on_an_object_store_is_downloaded_first(hub, tmp_path, monkeypatch):
    recipe, run = write_run(tmp_path / "runs")
    monkeypatch.setattr("masters.data.storage.Storage.local_path", None)
    scratch = tmp_path / "scratch"
    assert run_command(recipe, NAME, "--set", f"train.scratch={scratch}")[0] == 0
    assert hub.repositories[NAME].branches["main"]["model.safetensors"] == run.read("train/student/model.safetensors")
    shutil.rmtree(scratch, ignore_errors=True)
