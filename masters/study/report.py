"""A study's report: a table for the terminal, a page, a picture, and all numbers for a script."""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files

import jinja2
from rich.table import Table

from masters.config.study import BASELINE
from masters.data.storage import Storage
from masters.reporting import plots
from masters.reporting.statistics import Interval
from masters.study.findings import NOT_REPRODUCED, Findings, RowFindings

PAGE, PICTURE, NUMBERS = "study.html", "study.png", "study.json"


def write_report(findings: Findings, missing: Mapping[str, str], folder: Storage) -> None:
    """Write page, picture and numbers into the study's folder; `missing` are runs without a result, with the reason."""
    compared = [one for one in findings.rows if one.row.against]
    drawn, picture = plots.differences([(_label(one), _both(one), _printed(one)) for one in compared])
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string((files("masters.reporting") / "templates" / "study.html.j2").read_text())
    page = template.render(
        findings=findings,
        plot=drawn if compared else "",
        lines=[line_of(one) for one in findings.rows],
        by_seed=[(one.title, _by_seed(one, findings.seeds)) for one in compared],
        missing=missing,
        failed_words=NOT_REPRODUCED,
    )
    folder.write(PAGE, page.encode())
    folder.write(NUMBERS, (json.dumps({**findings.as_data, "missing": dict(missing)}, indent=1) + "\n").encode())
    if compared:
        folder.write(PICTURE, picture)


def line_of(one: RowFindings) -> dict[str, str]:
    """A row of the table in words; accuracies in percent, differences in points."""
    paper = one.row.paper
    told = "" if paper is None else f"{paper.value:.1f}" if paper.value is not None else ""
    change = "" if paper is None or paper.change is None else paper.change
    return {
        "title": one.title,
        "seeds": f"{len(one.scores)}",
        "score": "no result" if one.mean is None else f"{100 * one.mean:.1f}{_spread(one)}",
        "against": one.row.against or "",
        "change": one.change.both.in_points if one.change else "",
        "over_questions": one.change.over_questions.in_points if one.change else "",
        "over_seeds": one.change.over_seeds.in_points if one.change and one.change.over_seeds else "",
        "paper": told,
        "paper_change": change if isinstance(change, str) else f"{change:+.1f}",
        "where": paper.where if paper else "not in the paper",
        "verdict": one.verdict,
        "equal": one.equal,
        "remarks": "; ".join(one.remarks),
    }


def study_table(findings: Findings) -> Table:
    """For the terminal, 100 columns wide."""
    seeds = f"{len(findings.seeds)} seed{'s' if len(findings.seeds) > 1 else ''}"
    title = f"{findings.name}: {findings.measure}, {findings.questions:,} questions a student, {seeds}"
    table = Table(box=None, pad_edge=False, padding=(0, 1), title=title, title_justify="left")
    table.add_column("", overflow="fold")
    for heading in ("student", "against", "ours, 95 %", "paper"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in findings.rows:
        line = line_of(one)
        paper = " ".join(part for part in (line["paper"], line["paper_change"] and f"({line['paper_change']})") if part)
        table.add_row(line["title"], line["score"], line["against"], line["change"], paper)
    return table


def verdict_lines(findings: Findings) -> list[str]:
    """What stands below the table: of each row what ours says to the paper's, at which cost, and what is missing."""
    lines = []
    for one in findings.rows:
        told = "; ".join(part for part in (one.verdict, one.equal, *one.remarks) if part)
        lines += [f"{one.title}: {told}"] if told else []
    return lines


def _spread(one: RowFindings) -> str:
    return f" ± {100 * one.spread:.1f}" if one.spread is not None else ""


def _by_seed(one: RowFindings, seeds: Sequence[int]) -> list[str]:
    found = one.change.by_seed if one.change else {}
    return [found[seed].in_points if seed in found else "" for seed in seeds]


def _label(one: RowFindings) -> str:
    against = "its baseline" if one.row.against == BASELINE else one.row.against
    return f"{one.title}\nagainst {against}"


def _both(one: RowFindings) -> Interval | None:
    return one.change.both if one.change else None


def _printed(one: RowFindings) -> float | None:
    change = one.row.paper.change if one.row.paper else None
    return None if change is None or isinstance(change, str) else float(change)
