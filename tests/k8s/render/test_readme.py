"""What k8s/README.md and k8s/docs tell people to type: commands that parse, values that the chart takes, objects that are objects."""

import re
import shlex
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml

from tests.k8s import chart as charts
from tests.k8s.render.strict import needs_crds, problems
from tests.k8s.tools import ROOT, find

FILES = [ROOT / "k8s" / "README.md", *sorted((ROOT / "k8s" / "docs").glob("*.md"))]
TOOLS = ("helm", "kubectl", "masters")
PLACES = {"k8s/chart", "masters-0.1.0.tgz"}
"""What the chart is called there."""


def blocks(kind: str) -> list[tuple[Path, str]]:
    """Fenced blocks of a language, with their file."""
    return [(file, text) for file in FILES for text in re.findall(rf"```{kind}\n(.*?)```", file.read_text(), re.DOTALL)]


def typed() -> list[str]:
    """Lines of blocks, continued ones whole."""
    return [line for _, text in blocks("sh") for line in re.sub(r"\\\n\s*", " ", text).splitlines()]


def spoken() -> list[str]:
    """Commands between backquotes, which may be the half of one."""
    texts = [re.sub(r"```.*?```", "", file.read_text(), flags=re.DOTALL) for file in FILES]
    return [" ".join(line.split()) for text in texts for line in re.findall(rf"`((?:{'|'.join(TOOLS)}) [^`]+)`", text)]


def commands(tool: str, lines: list[str]) -> list[str]:
    """Those of one tool, without what is before or behind them in a pipe; once each."""
    parts = [part for line in lines for part in _pipe(line)]
    return sorted({shlex.join(words) for words in parts if words and words[0] == tool})


def _pipe(line: str) -> list[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|")
    lexer.whitespace_split = True
    parts: list[list[str]] = [[]]
    for word in lexer:
        if word == "|":
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


@cache
def help_of(tool: str, words: tuple[str, ...]) -> str:
    """Of a subcommand of helm or kubectl; a failure is one of the test."""
    binary = find(tool)
    assert binary is not None
    done = subprocess.run([binary, *words, "--help"], capture_output=True, text=True, check=True)
    if tool == "kubectl":
        done.stdout += subprocess.run([binary, "options"], capture_output=True, text=True, check=True).stdout
    return done.stdout


def flags(words: list[str]) -> list[str]:
    """The options among the words, none behind `--`."""
    own = words[: words.index("--")] if "--" in words else words
    return [word.split("=")[0] for word in own if re.match(r"--?[a-z]", word)]


TWO_WORDS = {"dependency", "show", "create"}


def unknown_flags(line: str) -> list[str]:
    """Of a command of helm or kubectl, those that its help does not name."""
    tool, *words = shlex.split(line)
    if words[0] == "-n":
        words = words[2:]
    verb = tuple(words[: 2 if words[0] in TWO_WORDS else 1])
    if verb == ("create", "secret"):
        verb = tuple(words[:3])
    known = help_of(tool, verb)
    assert re.search(rf"{tool} {' '.join(verb)}\b", known), line  # else it is the help of what is above
    return [flag for flag in flags(words) if not re.search(rf"(^|[\s,]){re.escape(flag)}[\s,=]", known)]


@pytest.mark.parametrize("tool", ["helm", "kubectl"])
def test_commands_have_options_that_there_are(chart, tool):
    found = commands(tool, [*typed(), *spoken()])
    assert len(found) >= 10
    assert {line: unknown for line in found if (unknown := unknown_flags(line))} == {}


def test_an_option_that_nobody_has_is_found(chart):
    assert unknown_flags("helm upgrade masters k8s/chart --force-conflict") == ["--force-conflict"]
    assert unknown_flags("kubectl exec -n masters loader --now -- mkdir -p /a") == ["--now"]


def our_own(line: str):
    """(click's command, its arguments) of a line of ours."""
    import typer

    from masters.cli import app

    command, words = typer.main.get_command(app), shlex.split(line)[1:]
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    return command, words


def test_our_own_commands_parse():
    found = commands("masters", typed())
    assert {line.split()[1] for line in found} >= {"check", "submit", "status", "logs"}
    for line in found:
        command, words = our_own(line)
        command.make_context(command.name, words)


def test_our_own_commands_have_options_that_there_are():
    found = commands("masters", [*typed(), *spoken()])
    assert {line.split()[1] for line in found} >= {"check", "submit", "stop", "plan", "data"}
    for line in found:
        command, words = our_own(line)
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(flags(words)) <= known, line


def test_what_is_installed_is_rendered(chart, tmp_path):
    """With the first values of the README; the flags that ask a cluster are left out."""
    values = tmp_path / "values.yaml"
    values.write_text(next(text for text in values_snippets() if "images" in yaml.safe_load(text)))
    done = []
    for line in commands("helm", typed()):
        verb, *words = shlex.split(line)[1:]
        if verb not in ("install", "upgrade") or not PLACES & set(words):
            continue
        words = [word for word in words if not word.startswith(("--create-namespace", "--force-conflicts"))]
        here = [str(chart) if word in PLACES else str(values) if word == "values.yaml" else word for word in words]
        assert charts.objects(charts.helm("template", *here)), line
        done.append(verb)
    assert {"install", "upgrade"} <= set(done)


def documents() -> list[tuple[str, dict]]:
    """(file and place, YAML) of every block."""
    return [
        (f"{file.name}-{number}", one)
        for number, (file, text) in enumerate(blocks("yaml"))
        for one in yaml.safe_load_all(text)
    ]


@cache
def chart_keys() -> set[str]:
    return set(yaml.safe_load((charts.CHART / "values.yaml").read_text()))


def is_recipe(one: dict) -> bool:
    return "prepare" in one


def values_snippets() -> list[str]:
    """Blocks that are neither objects nor recipes, so that a block of another kind fails as values."""
    texts = [(text, next(iter(yaml.safe_load_all(text)))) for _, text in blocks("yaml")]
    return [text for text, one in texts if "apiVersion" not in one and not is_recipe(one)]


@pytest.mark.parametrize("text", values_snippets(), ids=lambda text: ",".join(yaml.safe_load(text)))
def test_the_chart_takes_every_snippet_of_values(chart, tmp_path, text):
    assert set(yaml.safe_load(text)) <= chart_keys()
    file = tmp_path / "values.yaml"
    file.write_text(text)
    assert charts.template(chart, "--values", file)


def test_recipes_of_the_readme_are_recipes():
    from masters.config.load import read_recipe, validate

    found = [one for _, one in documents() if is_recipe(one)]
    assert len(found) >= 2
    for one in found:
        recipe = read_recipe(ROOT / "recipes" / "tiny.yaml", [])
        recipe |= {"storage": one["storage"], "prepare": recipe["prepare"] | one["prepare"]}
        validate(recipe, "k8s/README.md")


@needs_crds
def test_the_loader_is_a_pod_that_the_restricted_standard_takes(rendered):
    (pod,) = [one for _, one in documents() if one.get("kind") == "Pod"]
    assert problems("Pod", pod) == []
    (container,), whole = pod["spec"]["containers"], pod["spec"]["securityContext"]
    assert (whole["runAsNonRoot"], whole["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    (claim,) = [one["persistentVolumeClaim"]["claimName"] for one in pod["spec"]["volumes"]]
    made = rendered(None, release="masters")
    assert claim in {one["metadata"]["name"] for one in made.of("PersistentVolumeClaim")}
    assert pod["spec"]["serviceAccountName"] in {one["metadata"]["name"] for one in made.of("ServiceAccount")}
    assert {whole[key] for key in ("runAsUser", "fsGroup")} == {1000}  # what it writes, Ray's pods read


def test_disks_are_those_that_the_chart_asks_for(rendered):
    """The table of k8s/docs/pools.md."""
    text = (ROOT / "k8s" / "docs" / "pools.md").read_text()
    (table,) = re.findall(r"with a shared cache \| each pod its own \|\n\|---\|---\|---\|\n(.*?)\n\n", text, re.DOTALL)
    rows = [[cell.strip(" `") for cell in row.strip("|").split("|")] for row in table.splitlines()]
    for column, kind in ((1, "pvc"), (2, "emptyDir")):
        some = rendered(None, "--set", f"modelCache.kind={kind}")
        asked = {"head": some.head} | some.workers
        for row in rows:
            assert row[column] == f"{asked[row[0]].request('ephemeral-storage') / 2**30:g} GiB", (row[0], kind)


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_links_lead_somewhere(file):
    for target in re.findall(r"\]\(([^)]+)\)", file.read_text()):
        path, _, anchor = target.partition("#")
        there = (file.parent / path) if path else file
        assert there.is_file(), target
        headings = [slug(line.lstrip("# ")) for line in there.read_text().splitlines() if line.startswith("#")]
        assert not anchor or anchor in headings, target
