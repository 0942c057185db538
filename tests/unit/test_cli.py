"""The command line, in the process of the test: messages and exit codes."""

import sys
from pathlib import Path

import pytest

from masters.cli import main

ROOT = Path(__file__).parents[2]
GROUP = "workerGroups: {judge: {maxReplicas: %d, cpus: 4, memoryGi: 8, shmGi: 2}}\n"


@pytest.fixture
def masters(monkeypatch, capsys):
    def masters(*arguments: object) -> tuple[int, str]:
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", ["masters", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out + captured.err

    return masters


def test_check_with_values_says_where_each_stage_goes(masters, tmp_path):
    values = tmp_path / "values.yaml"
    values.write_text(GROUP % 2)
    status, said = masters("check", "recipes/tiny.yaml", "--values", values)
    assert status == 0, said
    assert "train     2 workers on judge (4 a pod)" in said
    assert "recipes/tiny.yaml: fine." in said


def test_check_with_values_refuses_what_cannot_be_placed(masters, tmp_path):
    values, over = tmp_path / "values.yaml", tmp_path / "over.yaml"
    values.write_text(GROUP % 2)
    over.write_text("workerGroups: {judge: {cpus: 0.5}}\n")
    status, said = masters("check", "recipes/tiny.yaml", "--values", values, "--values", over)
    assert status == 1
    assert 'recipes/tiny.yaml: resources.train.cpus = 1: stage train: group "judge" has 0.5 CPUs a pod.' in said
    assert "6 problems; nothing was started." in said
