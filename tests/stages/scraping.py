"""Scraping a local Ray while it runs, as Prometheus does: through the addresses that Ray writes for it."""

import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

Samples = dict[str, set[frozenset[tuple[str, str]]]]


@contextmanager
def scraping(folder: Path) -> Iterator[Samples]:
    """Name -> the sets of labels seen, filled while the block runs. `folder` is RAY_TMPDIR of the Ray that is looked at."""
    seen: Samples = {}
    ended = threading.Event()

    def scrape() -> None:
        while not ended.wait(2):
            for address in _targets(folder / "ray" / "prom_metrics_service_discovery.json"):
                try:
                    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
                        text = answer.read().decode()
                except OSError:
                    continue  # it is starting, or ending
                for family in text_string_to_metric_families(text):
                    for sample in family.samples:
                        seen.setdefault(sample.name, set()).add(frozenset(sample.labels.items()))

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def _targets(file: Path) -> list[str]:
    try:
        return [target for group in json.loads(file.read_text()) for target in group["targets"]]
    except (OSError, ValueError):
        return []


def values(seen: Samples, name: str, label: str) -> set[str]:
    """The values of a label of a metric."""
    return {dict(labels)[label] for labels in seen.get(name, ())}
