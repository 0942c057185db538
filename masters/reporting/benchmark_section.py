"""The report's section on benchmarks: a row for each, the student's gains, what the paper prints, answers that changed."""

import base64
from importlib.resources import files

import jinja2

from masters.data.storage import Storage
from masters.reporting import plots
from masters.reporting.benchmarks import in_paper, lines_of, read_changes, read_results, remarks_of, rows_of

STUDENT = "student"


def section(run: Storage) -> str:
    """As HTML; empty where the recipe wants no benchmark."""
    results = read_results(run)
    if results is None:
        return ""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string((files("masters.reporting") / "templates" / "benchmarks.html.j2").read_text())
    lines = lines_of(results, STUDENT)
    gains = {line.name: line.gain for line in lines if line.gain}
    return template.render(
        models=results["models"],
        lines=lines,
        gains=plots.gains(gains) if gains else "",
        rows=list(rows_of(results)),
        remarks=remarks_of(results),
        paper=in_paper(results),
        paper_unknown=results["paper_unknown"],
        changed=[{**row, "images": [_data_uri(content) for content in row["images"]]} for row in read_changes(run)],
    )


def _data_uri(content: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
