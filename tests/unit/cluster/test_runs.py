"""RayJobs and jobs of a release by name, through a kubectl and a job server that stand in for the real ones."""

import json
import re

import pytest

from masters.cluster import runs
from masters.cluster.access import Target
from masters.cluster.nodes import waiting_lines
from tests.unit.cluster.stand_ins import (
    BOTH,
    RUNNING,
    TOKEN,
    calls,
    job,
    pod,
    rayjob,
    unscheduled,
    waiting,
)

HERE = Target(namespace="lab")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("small", "rayjob/small"),
        ("small-1", "rayjob/small"),
        ("rayjob/other", "rayjob/other"),
        ("other-mask", "rayjob/other-mask"),
        ("tiny", "raysubmit_1"),
        ("raysubmit_3", "raysubmit_3"),
        ("", "rayjob/other-score"),
    ],
)
def test_a_run_is_found_by_name_wherever_it_is(lab, name, found):
    lab(**BOTH)
    with runs.find(HERE, name) as one:
        assert (f"rayjob/{one.name}" if isinstance(one, runs.RayJob) else one.job.submission_id) == found


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("other", "other: is a RayJob, and a job of lab. Name one of them: rayjob/other, or raysubmit_2."),
        ("none", "none: no such run in namespace lab. RayJobs: rayjob/other-score, rayjob/other-mask, rayjob/small, rayjob/other. "
                 "Jobs of the release: raysubmit_2, raysubmit_1, raysubmit_3. `masters list -n lab` shows all runs."),
        ("rayjob/none", "rayjob/none: no such run in namespace lab."),
    ],
)  # fmt: skip
def test_a_name_that_means_two_or_nothing_is_said(lab, name, words):
    lab(**BOTH)
    with pytest.raises(ValueError) as caught, runs.find(HERE, name):
        pass
    assert words in str(caught.value)


def test_the_latest_run_of_all_where_none_is_named(lab):
    lab(**{**BOTH, "jobs": [job("raysubmit_9", "tiny", 1)]})
    with runs.find(HERE, "") as one:
        assert one.job.submission_id == "raysubmit_9"


def test_rayjobs_are_reached_without_a_release_and_jobs_without_a_right_to_see_rayjobs(lab):
    there = lab(**{**BOTH, "rayclusters": []})
    with runs.find(HERE, "small") as one:
        assert one.name == "small"
    there = lab(**BOTH)
    (there.place / "no-rayjobs").touch()
    with runs.find(HERE, "tiny") as one:
        assert one.job.submission_id == "raysubmit_1"
    with pytest.raises(ValueError, match="rayjobs is forbidden"), runs.find(HERE, "rayjob/small"):
        pass


def test_status_shows_the_rayjob_its_stages_and_what_its_pods_wait_for(lab, masters):
    pods = [
        pod("generate", conditions=unscheduled("0/3 nodes are available:\n 3 Insufficient nvidia.com/gpu.")),
        pod("generate", conditions=unscheduled("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")),
        pod("judge", "Running"),
    ]
    there = lab(**BOTH, pods=pods)
    status, said = masters("status", "small", "-n", "lab")
    assert status == 0, said
    lines = said.splitlines()
    assert re.fullmatch(r"rayjob/small  RUNNING \(Running\)  \d:\d\d  small  python -m ray_jobs.pipeline x", lines[0])
    assert "attempts  1 failed, 0 succeeded, 4 at most" in lines
    assert "pending   generate, 2 pods: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu." in lines
    assert "generate  12/40 questions" in lines
    assert "run       s3://bucket/runs/small; its logs are in s3://bucket/runs/small/logs" in lines
    assert lines[-1].startswith("next     masters logs rayjob/small -f -n lab · masters stop rayjob/small -n lab")
    assert "-l ray.io/cluster=small-x7 " in calls(there)
    assert TOKEN not in calls(there) + said


@pytest.mark.parametrize(
    ("status", "lines"),
    [
        ({}, ["rayjob/small  not seen by the operator yet", "attempts  0 failed, 0 succeeded, 4 at most"]),
        ({"jobDeploymentStatus": "Initializing", "rayClusterName": "small-x7"}, ["rayjob/small  Initializing"]),
        ({"jobDeploymentStatus": "Suspended"}, ["rayjob/small  Suspended"]),
        (
            {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "failed": 4, "reason": "AppFailed", "message": "Job exited with 1:\nlong"},
            ["rayjob/small  FAILED (Failed)", "attempts  4 failed", "message   AppFailed: Job exited with 1:"],
        ),
        (
            {"jobDeploymentStatus": "ValidationFailed", "reason": "ValidationFailed", "message": "the name is too long"},
            ["rayjob/small  ValidationFailed", "message   ValidationFailed: the name is too long"],
        ),
        ({**RUNNING, "jobId": "gone"}, ["rayjob/small  RUNNING (Running)", "cluster   small-x7 does not answer: "]),
        ({**RUNNING, "rayClusterName": "other"}, ["rayjob/small  RUNNING (Running)"]),
    ],
)  # fmt: skip
def test_status_of_every_state(lab, masters, status, lines):
    lab(**{**BOTH, "rayjobs": [rayjob("small", **status)]})
    code, said = masters("status", "rayjob/small", "-n", "lab")
    assert code == 0, said
    for line in lines:
        assert any(one.startswith(line) for one in said.splitlines()), said
    assert "long" not in said.replace("too long", "")


def test_logs_of_a_rayjob_while_its_cluster_lives(lab, masters):
    lab(**BOTH)
    assert masters("logs", "small", "-n", "lab") == (0, "prepare   40 samples\ngenerate  12/40 questions\n")
    assert "(x pid=3) noise" in masters("logs", "small", "-n", "lab", "--verbose")[1]


def test_logs_of_a_rayjob_whose_cluster_is_gone_are_those_of_its_run_directory(lab, masters, tmp_path):
    ended = rayjob(
        "small", jobDeploymentStatus="Complete", jobStatus="SUCCEEDED", jobId="small-1", rayClusterName="small-x7"
    )
    directory = tmp_path / "runs" / "small"
    ended["metadata"]["annotations"]["masters/run-directory"] = str(directory)
    lab(rayjobs=[ended])
    status, said = masters("logs", "small", "-n", "lab")
    assert status == 1
    assert said.startswith(f"error    Its cluster is gone, or says nothing. {directory}: is no folder here.")
    (directory / "logs").mkdir(parents=True)
    for name, text in (
        ("20260101-000000-aaaa.log", "old"),
        ("20260102-000000-aaaa.log", "train     loss 0.1\n(x pid=3) noise"),
    ):
        (directory / "logs" / name).write_text(text)
    for go_on in ((), ("-f",)):
        status, said = masters("logs", "small", "-n", "lab", *go_on)
        assert status == 0, said
        assert said.startswith("train     loss 0.1\n")
        assert "From " in said
        assert "20260101-000000-aaaa.log" in said
        assert "noise" not in said


def test_a_rayjob_is_followed_from_attempt_to_attempt(lab, masters, monkeypatch):
    states = [
        rayjob("small", jobDeploymentStatus="Initializing", jobId="small-1", rayClusterName="small-x7"),
        rayjob("small", **RUNNING),
        rayjob("small", **RUNNING),  # its job is known to have ended, the operator has not seen it
        rayjob("small", jobDeploymentStatus="Retrying", failed=2),
        rayjob("small", **{**RUNNING, "jobId": "small-2"}),
        rayjob("small", jobDeploymentStatus="Complete", jobStatus="SUCCEEDED", failed=2, succeeded=1),
    ]
    lab(**BOTH, pods=[pod("headgroup", conditions=unscheduled("no node"))])
    monkeypatch.setattr(runs, "read", lambda target, name: runs.RayJob(states.pop(0)))
    monkeypatch.setattr(runs.jobs, "follow", lambda access, job, show: show(f"train     {job}"))
    status, said = masters("logs", "rayjob/small", "-f", "-n", "lab")
    assert status == 0
    assert said.splitlines() == [
        "rayjob/small  Initializing; head: no node",
        "train     small-1",
        "rayjob/small  Retrying",
        "train     small-2",
        "rayjob/small  SUCCEEDED (Complete)   2 failed, 1 succeeded, 4 at most",
    ]


@pytest.mark.parametrize(
    ("ended", "status"),
    [({"jobStatus": "FAILED", "jobDeploymentStatus": "Failed"}, 1), ({"jobDeploymentStatus": "Suspended"}, 1), ({"jobStatus": "SUCCEEDED", "jobDeploymentStatus": "Complete"}, 0)],
)  # fmt: skip
def test_who_follows_learns_how_it_ended(lab, masters, monkeypatch, ended, status):
    lab(**BOTH)
    monkeypatch.setattr(runs, "read", lambda target, name: runs.RayJob(rayjob("small", **ended)))
    assert masters("logs", "small", "-f", "-n", "lab")[0] == status


def test_who_follows_a_cluster_that_cannot_be_asked_is_told_after_some_tries(lab, masters):
    there = lab(**BOTH)
    (there.place / "no-secret").touch()
    status, said = masters("logs", "rayjob/small", "-f", "-n", "lab")
    assert status == 1
    assert "error    rayjob/small: cannot be followed any more: " in said
    assert "secret is forbidden" in said


def test_stop_keeps_the_object_and_says_how_to_go_on(lab, masters):
    there = lab(**{**BOTH, "rayjobs": [rayjob("small", spec={"deletionStrategy": {"deletionRules": []}}, **RUNNING)]})
    status, said = masters("stop", "small", "-n", "lab")
    assert status == 0, said
    assert said.splitlines() == [
        "rayjob/small  Suspended",
        "What is finished is kept in s3://bucket/runs/small, and its log; its cluster goes.",
        """Continue: kubectl -n lab patch rayjob small --type merge -p '{"spec": {"suspend": false}}'""",
        "or apply the manifest of its recipe again. Forget it: kubectl -n lab delete rayjob small",
    ]
    (left,) = json.loads((there.place / "rayjobs.json").read_text())
    assert left["spec"]["suspend"] is True
    assert left["spec"]["shutdownAfterJobFinishes"] is True  # else KubeRay takes no suspend
    assert "deletionStrategy" not in left["spec"]
    assert there.server.stopped == ["small-1"]  # the driver ends as with Ctrl-C, its log with it
    assert "delete" not in calls(there)


def test_stop_needs_neither_a_head_nor_its_token(lab, masters):
    for hindrance in ("no-pod", "no-secret"):
        there = lab(**{**BOTH, "rayjobs": [rayjob("small", **RUNNING)]})
        (there.place / hindrance).touch()
        status, said = masters("stop", "small", "-n", "lab")
        assert status == 0, said
        assert said.startswith("rayjob/small  Suspended\n")
        assert there.server.stopped == []
        (there.place / hindrance).unlink()


def test_a_job_that_kuberay_took_for_finished_is_deleted_before_it_goes_on(lab, masters):
    ended = {"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"}
    lab(**{**BOTH, "rayjobs": [rayjob("small", after=ended, **RUNNING)]})
    status, said = masters("stop", "small", "-n", "lab")
    assert status == 0
    assert said.startswith("rayjob/small  STOPPED (Complete)\n")
    assert "suspend" not in said
    assert "`kubectl -n lab delete rayjob small`, and apply the manifest of its recipe to continue." in said


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (rayjob("small", jobDeploymentStatus="Complete", jobStatus="SUCCEEDED"), "rayjob/small: is SUCCEEDED (Complete) already."),
        (rayjob("small", labels={"kueue.x-k8s.io/queue-name": "team"}, **RUNNING), "rayjob/small: is in a queue of Kueue, which would start it again."),
    ],
)  # fmt: skip
def test_what_cannot_be_stopped_is_said_and_left_alone(lab, masters, item, words):
    there = lab(**{**BOTH, "rayjobs": [item]})
    status, said = masters("stop", "small", "-n", "lab")
    assert status == 1
    assert words in said
    assert "`kubectl -n lab delete rayjob small`" in said
    assert " patch " not in calls(there)


def test_all_runs_of_a_namespace_in_one_table(lab, masters):
    lab(**BOTH)
    status, said = masters("list", "-n", "lab")
    assert status == 0, said
    table = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in said.splitlines()]
    assert [row[:4] + row[5:] for row in table] == [
        ["run", "kind", "state", "stage", "where"],
        ["other", "RayJob", "not seen by the operator yet", "-", "rayjob/other-score"],
        ["other", "RayJob", "not seen by the operator yet", "-", "rayjob/other-mask"],
        ["other", "job", "RUNNING", "-", "raysubmit_2 on lab"],
        ["tiny", "job", "RUNNING", "mask 2 teachers", "raysubmit_1 on lab"],
        ["small", "RayJob", "RUNNING (Running)", "generate 12/40 questions", "rayjob/small"],
        ["tiny", "job", "RUNNING", "-", "raysubmit_3 on lab"],
        ["other", "RayJob", "not seen by the operator yet", "-", "rayjob/other"],
    ]
    assert re.fullmatch(r"\d:\d\d", table[5][4])


def test_a_release_without_a_head_hides_its_own_jobs_only(lab, masters):
    there = lab(**BOTH)
    (there.place / "no-pod").touch()
    status, said = masters("list", "-n", "lab")
    assert status == 0
    assert "note     lab: kubectl port-forward svc/lab-head-svc: error: unable to forward port" in said
    assert "rayjob/small" in said
    lab()
    (there.place / "no-pod").unlink()
    assert masters("list", "-n", "lab") == (0, "no runs there. `masters submit` starts one.\n")


@pytest.mark.parametrize(
    ("pods", "lines"),
    [
        ([pod("headgroup", conditions=unscheduled("0/1 nodes:\n taint"))], ["head: 0/1 nodes: taint"]),
        ([pod("train", initContainerStatuses=waiting("PodInitializing"), containerStatuses=waiting("ImagePullBackOff", "no such image"))], ["train: ImagePullBackOff: no such image"]),
        ([pod("train", conditions=[{"type": "PodScheduled", "status": "True"}], containerStatuses=waiting("ContainerCreating"))], ["train: it starts"]),
        ([pod("train"), pod("train"), pod("judge", "Running"), pod("judge", "Succeeded")], ["train, 2 pods: not scheduled yet"]),
        ([], []),
    ],
)  # fmt: skip
def test_what_pods_wait_for(pods, lines):
    assert waiting_lines(pods) == lines


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("runs/tiny", "-n", "lab"), "runs/tiny: is a run directory, which no cluster is needed for."),
        (("s3://bucket/runs/tiny", "-f"), "--follow s3://bucket/runs/tiny: a kept log does not say when its run ends."),
    ],
)
def test_a_run_directory_needs_no_cluster(masters, arguments, words):
    status, said = masters("logs", *arguments)
    assert status == 1
    assert words in said
