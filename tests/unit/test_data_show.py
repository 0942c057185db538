"""`masters data show`: what other frameworks document as their formats is read, and shown as it would be trained on."""

import json
import re
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from masters.cli import main

DIALECTS = Path(__file__).parent / "data" / "sources" / "dialects"
ROOT = Path(__file__).parents[2]
FRAMEWORKS = {"ms_swift": "jsonl", "llama_factory": "json", "trl": "jsonl"}
GROUNDING = ["<|box_start|>", "<|box_end|>"]


@pytest.fixture
def show(monkeypatch, capsys):
    def show(*arguments: object) -> tuple[int, str]:
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", ["masters", "data", "show", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out + captured.err

    return show


class Documented:
    """The records of a framework's formats that can be used as they are, in a file, with the images that they name."""

    def __init__(self, framework: str, folder: Path):
        self.folder = folder
        self.sizes: dict[str, tuple[int, int]] = {}
        cases = yaml.safe_load((DIALECTS / f"{framework}.yaml").read_text())
        good = [case for case in cases if "source" not in case and not any("problem" in r for r in case.get("rows", [{"problem": ""}]))]  # fmt: skip
        records = [self._drawn(case["record"]) for case in good]
        self.rows = [self._drawn(row) for case in good for row in case["rows"]]
        kind = FRAMEWORKS[framework]
        text = json.dumps(records, indent=2) if kind == "json" else "".join(json.dumps(r) + "\n" for r in records)
        (folder / f"data.{kind}").write_text(text)
        self.source = {"type": "files", "name": "mine", "path": str(folder / f"data.{kind}"), "allow_tokens": GROUNDING}

    def _drawn(self, value):
        """The record with images that are there: each name is a file of a size of its own."""
        if isinstance(value, dict):
            if isinstance(value.get("bytes"), bytes):
                value = {"bytes": None, "path": "bytes.png"}
            return {key: self._drawn(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._drawn(inner) for inner in value]
        name = "bytes.png" if isinstance(value, bytes) else value
        if isinstance(name, str) and re.fullmatch(r"[\w./]+\.(png|jpg)", name):
            name = name.removeprefix("/xxx/")
            if name not in self.sizes:
                self.sizes[name] = 40 + len(self.sizes), 30
                (self.folder / name).parent.mkdir(exist_ok=True)
                Image.new("RGB", self.sizes[name], "red").save(self.folder / name)
        return name

    def expected(self) -> list[dict[str, str]]:
        """Of each row its lines, by what stands before them."""
        return [
            {
                "images": ", ".join("{} x {}".format(*self.sizes[name]) for name in row.get("images", [])) or "none",
                "question": row["question"],
                "answer": f"{row['answers'].strip()}   (answer type: text)",
            }
            for row in self.rows
        ]


def blocks(said: str) -> list[dict[str, str]]:
    """What was printed, row by row: the lines by what stands before them."""
    found: list[dict[str, str]] = []
    name = ""
    for line in said.splitlines():
        if re.match(r"  \S", line):
            found.append({"": line.strip()})
        elif line.startswith(" " * 14):
            found[-1][name] += f"\n{line[14:]}"
        elif line.startswith("    "):
            name = line[4:14].strip()
            found[-1][name] = line[14:]
    return found


def write(folder: Path, name: str, value: object) -> Path:
    """A file of lines for a list of records, a YAML file for anything else."""
    path = folder / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in value) if isinstance(value, list) else yaml.safe_dump(value))
    return path


def asked(*questions: str, **fields: object) -> list[dict[str, object]]:
    return [{"question": question, "answer": f"To {question}", **fields} for question in questions]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_documented_formats_are_shown(show, tmp_path, framework):
    data = Documented(framework, tmp_path)
    page = tmp_path / "page.html"
    status, said = show(write(tmp_path, "source.yaml", data.source), "--rows", 100, "--page", page)
    assert status == 0, said
    assert said.startswith("mine  files, 1 file\n")
    assert re.match(r"(line|record) 1   train   id [0-9a-f]{16}", blocks(said)[0][""])
    wanted = data.expected()
    assert len(wanted) >= 6
    assert len(data.sizes) >= 1
    assert [{name: row[name] for name in ("images", "question", "answer")} for row in blocks(said)] == wanted
    assert said.endswith(f"page     {page}\n")
    _check_page(page.read_text(), data)


def _check_page(html: str, data: Documented) -> None:
    """Everything is in the page, and nothing is fetched for it."""
    escaped = [row["question"].replace("<", "&lt;").replace(">", "&gt;") for row in data.expected()]
    assert re.findall(r"<dt>question</dt><dd>(.*?)</dd>", html, re.DOTALL) == escaped
    assert html.count("<article>") == len(data.rows)
    images = sum(len(row.get("images", [])) for row in data.rows)
    assert re.findall(r"<img src=\"(.{22})", html) == ["data:image/png;base64,"] * images
    assert not re.search(r"https?:|<link|<script|@import|url\(", html)


def test_text_of_the_data_is_text_in_the_page_and_on_the_screen(show, tmp_path):
    hostile = "<script>alert('x')</script> & [bold]not bold[/bold] :smile: \x1b[31mred\x9b0m"
    data = write(
        tmp_path, "d.jsonl", [{"id": "<b>1</b>", "question": hostile, "answer": "<img src=http://x>\nA \x1b]0;t"}]
    )
    page = tmp_path / "a page.html"
    status, said = show(write(tmp_path, "s.yaml", {"type": "files", "path": str(data)}), "--page", page)
    assert status == 0, said
    assert "<script>alert('x')</script> & [bold]not bold[/bold] :smile: \\x1b[31mred\\x9b0m\n" in said
    assert "answer    <img src=http://x>\n              A \\x1b]0;t   (answer type: text)\n" in said
    html = page.read_text()
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; [bold]" in html
    assert "&lt;b&gt;1&lt;/b&gt;" in html
    assert not re.search("<script|<img", html)


@pytest.mark.parametrize("kind", ["recipe", "sources", "one source"])
def test_a_recipe_its_sources_and_one_source_are_taken(show, tmp_path, kind):
    data = write(tmp_path, "d.jsonl", asked("Who?", "When?"))
    source = {"type": "files", "name": "mine", "path": str(data)}
    files = {
        "recipe": {"student": {"path": "no/such/model"}, "hub_token_env": "X", "prepare": {"sources": [source]}},
        "sources": {"sources": [source, {**source, "name": "again"}]},
        "one source": {"type": "files", "path": str(data)},
    }
    status, said = show(write(tmp_path, "mine.yaml", files[kind]))
    assert status == 0, said
    assert said.startswith("mine  files, 1 file\n  line 1   train   id ")
    assert [row["question"] for row in blocks(said)] == ["Who?", "When?"] * (2 if kind == "sources" else 1)
    assert ("again  files, 1 file\n" in said) == (kind == "sources")


def test_a_shipped_recipe_is_taken_and_overridden(show):
    status, said = show("recipes/tiny.yaml", "--rows", 1, "--set", "prepare.sources[0].train_images=0")
    assert status == 0, said
    assert said.startswith("charts  charts\n  row 0   test   id ")
    assert len(blocks(said)) == 1


SPLITS = {
    "two files": ({"train.jsonl": 5, "test.jsonl": 5}, {}, ["train"] * 3 + ["test"] * 3),
    "few rows": ({"train.jsonl": 5, "test.jsonl": 1}, {}, ["train"] * 3 + ["test"]),
    "a first file that is short": ({"train-0.jsonl": 1, "train-1.jsonl": 9, "test.jsonl": 4}, {}, ["train"] * 3 + ["test"] * 3),
    "a split that is left out": ({"train.jsonl": 5, "test.jsonl": 5}, {"splits": {"test": "skip"}}, ["train"] * 3),
    "no split in the names": ({"a.jsonl": 2, "b.jsonl": 5}, {"split": "validation"}, ["validation"] * 3),
}  # fmt: skip


@pytest.mark.parametrize("name", SPLITS)
def test_rows_are_shown_of_each_source_and_split(show, tmp_path, name):
    files, fields, splits = SPLITS[name]
    for file, count in files.items():
        write(tmp_path / "data", file, asked(*(f"{file} {number}?" for number in range(count))))
    source = {"type": "files", "path": str(tmp_path / "data"), **fields}
    sources = {"sources": [{**source, "name": "one"}, {**source, "name": "other"}]}
    status, said = show(write(tmp_path, "s.yaml", sources), "--rows", 3)
    assert status == 0, said
    found = [re.search(r"(train|validation|test)   id", row[""])[1] for row in blocks(said)]
    assert sorted(found) == sorted(splits * 2)
    assert len({row["question"] for row in blocks(said)}) == len(splits)
    counted = len([file for file in files if "splits" not in fields or not file.startswith("test")])
    assert said.startswith(f"one  files, {counted} file{'s' if counted > 1 else ''}\n")


def test_rows_that_a_run_would_reject_are_shown_with_the_reason(show, tmp_path):
    records = [
        {"question": "Q", "answer": "", "id": "no-answer"},
        {"question": "<image>Q", "answer": "A", "image": "none.png", "id": 2},
        {"question": "Q", "answer": "A", "id": [1]},
        *asked("Good?", id=9),
    ]
    source = {"type": "files", "path": str(write(tmp_path, "d.jsonl", records))}
    page = tmp_path / "p.html"
    status, said = show(write(tmp_path, "s.yaml", source), "--rows", 9, "--page", page)
    assert status == 0, said
    assert [(row[""], row.get("rejected", "")) for row in blocks(said)] == [
        ("line 1   id no-answer", "answer is empty"),
        ("line 2   id 2", f"image file cannot be read: '{tmp_path}/none.png': No such file or directory"),
        ("line 3", "id is neither a string nor an integer: [1]"),
        ("line 4   train   id 9", ""),
    ]
    assert page.read_text().count('<article class="bad">') == 3
    assert page.read_text().count("<dt>rejected</dt>") == 3


def test_everything_else_of_a_row_is_shown(show, tmp_path):
    records = [
        {"id": 1, "question": "Which?", "options": ["a cat", "a dog"], "answer": "B"},
        {"id": 2, "system": "Be brief.", "messages": [{"role": role, "content": f"{role} {n}"} for n in (1, 2) for role in ("user", "assistant")]},
        {"id": 3, "question": "How many?", "answer": ["2", "2.0", "+2"], "answer_type": "number"},
    ]  # fmt: skip
    sources = [
        {"type": "files", "name": f"s{number}", "path": str(write(tmp_path, f"{number}.jsonl", [record]))}
        for number, record in enumerate(records)
    ]
    sources[0]["choices"] = {"options": "options", "answer": "letter", "instruction": "Answer with the letter."}
    status, said = show(write(tmp_path, "s.yaml", {"sources": sources}))
    assert status == 0, said
    assert [list(row.items()) for row in blocks(said)] == [
        [
            ("", "line 1   train   id 1"),
            ("images", "none"),
            ("question", "Which?\nA. a cat\nB. a dog\nAnswer with the letter."),
            ("answer", "B   or: a dog   (answer type: choice)"),
            ("options", "a cat | a dog"),
        ],
        [
            ("", "line 1   train   id 2#0"),
            ("images", "none"),
            ("system", "Be brief."),
            ("question", "user 1"),
            ("answer", "assistant 1   (answer type: text)"),
        ],
        [
            ("", "line 1   train   id 2#1"),
            ("images", "none"),
            ("system", "Be brief."),
            ("asked", "user 1"),
            ("answered", "assistant 1"),
            ("question", "user 2"),
            ("answer", "assistant 2   (answer type: text)"),
        ],
        [
            ("", "line 1   train   id 3"),
            ("images", "none"),
            ("question", "How many?"),
            ("answer", "2   or: 2.0 | +2   (answer type: number)"),
        ],
    ]


ERRORS = {
    "an unknown field": ({"sources": [{"type": "files", "name": "a", "path": "{}/d.jsonl", "imagez": "x"}]}, 'prepare.sources[0].imagez = "x": is not a field of a recipe. Did you mean images?'),
    "an unknown field of one source": ({"type": "files", "path": "{}/d.jsonl", "imagez": "x"}, 'prepare.sources[0].imagez = "x": is not a field of a recipe. Did you mean images?'),
    "a wrong value": ({"type": "files", "path": "{}/d.jsonl", "split": "foo"}, 'prepare.sources[0].split = "foo": input should be \'train\', \'validation\' or \'test\'. Write one of these.'),
    "a wrong value in a recipe": ({"prepare": {"sources": [{"type": "charts"}, {"type": "charts", "name": "b", "seed": -1}]}}, "prepare.sources[1].seed = -1: input should be greater than or equal to 0. Write 0 or more."),
    "a wrong type": ({"type": "fils", "path": "{}/d.jsonl"}, "is of no type that there is. Write one of these as type: charts, custom,"),
    "no source": ({"student": {"path": "x"}}, "prepare.sources: is required. Add it;"),
    "no such file": ({"type": "files", "path": "{}/no.jsonl"}, "prepare.sources[s]: {}/no.jsonl: no such file or folder. Name a file of data, or a folder of them."),
    "a folder without data": ({"type": "files", "path": "{}", "format": "tsv"}, "prepare.sources[s]: {}: no tsv file in this folder; there is 1 .jsonl, 1 .yaml. Name a file, or a folder with JSON,"),
    "a field that the data do not have": ({"type": "files", "path": "{}/d.jsonl", "question": "q"}, "prepare.sources[s].question = q: no such field; found question, answer. Name a field of the data."),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_what_is_wrong_is_named_with_its_remedy(show, tmp_path, name):
    file, message = ERRORS[name]
    write(tmp_path, "d.jsonl", asked("Who?"))
    path = write(tmp_path, "s.yaml", file)
    path.write_text(path.read_text().replace("{}", str(tmp_path)))
    status, said = show(path)
    assert status == 1
    assert message.replace("{}", str(tmp_path)) in said


def test_a_page_that_cannot_be_written_is_named(show, tmp_path):
    source = {"type": "charts", "train_images": 1}
    status, said = show(write(tmp_path, "s.yaml", source), "--page", tmp_path / "none" / "p.html")
    assert status == 1
    assert f"--page {tmp_path}/none/p.html: cannot be written: No such file or directory. Name another file." in said


def test_the_mix_is_told_and_questions_end_as_they_are_asked(show, tmp_path):
    """Rows are shown whether weight and limit would use them or not: this is about how they are read."""
    data = write(tmp_path, "d.jsonl", asked("Who?", "When? Be brief."))
    mix = {"weight": 0.01, "limit": 2000, "prompt_suffix": "Be brief."}
    page = tmp_path / "page.html"
    source = {"type": "files", "path": str(data), "name": "mine", **mix}
    status, said = show(write(tmp_path, "s.yaml", source), "--page", page)
    assert status == 0, said
    assert said.startswith("mine  files, 1 file, weight 0.01 of train, at most 2,000 rows of each split\n")
    assert [row["question"] for row in blocks(said)] == ["Who?\nBe brief.", "When? Be brief."]
    assert "files, weight 0.01 of train, at most 2,000 rows of each split</span>" in page.read_text()
