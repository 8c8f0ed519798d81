"""The workflow's rules as a picture: recorded from jobs, laid out, and read by everyone."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from genclass.reporting.rule_graph import RuleGraph

JOBS = [
    ("fetch", []),
    ("fetch", []),
    ("prepare", ["fetch"]),
    ("evaluate", ["prepare", "fetch"]),
    ("evaluate", ["prepare", "fetch", "fetch"]),
    ("configure", []),
    ("report", ["evaluate", "configure"]),
]


def test_jobs_are_counted_by_rule() -> None:
    graph = RuleGraph.of(JOBS)
    assert graph.jobs["fetch"] == graph.jobs["evaluate"] == 2
    assert graph.after["evaluate"] == ["fetch", "prepare"]


def test_every_rule_stands_below_what_it_reads_and_as_late_as_it_can() -> None:
    assert RuleGraph.of(JOBS).layers == [
        ["fetch"],
        ["prepare"],
        ["configure", "evaluate"],
        ["report"],
    ]


def test_it_is_drawn_without_what_follows_from_other_arrows() -> None:
    drawn = ElementTree.fromstring(RuleGraph.of(JOBS).svg())
    arrows = [path for path in drawn.findall("path") if path.attrib["class"] == "after"]
    assert len(arrows) == 4  # not fetch to evaluate: prepare is between
    texts = ["".join(element.itertext()) for element in drawn.findall("text")]
    assert {"fetch × 2", "prepare × 1", "evaluate × 2"} <= set(texts)
    width = float(drawn.attrib["width"])
    for box in drawn.findall("rect"):
        assert 0 <= float(box.attrib["x"]) <= width - float(box.attrib["width"])
    assert drawn.attrib["aria-label"].endswith("report after configure, evaluate")


def test_names_are_escaped() -> None:
    nasty = 'a<b>&"c'
    drawn = ElementTree.fromstring(RuleGraph.of([(nasty, [])]).svg())
    assert drawn.findtext("text") == f"{nasty} "
    assert drawn.attrib["aria-label"] == nasty


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "rule_graph.json"
    assert RuleGraph.read(path) is None
    graph = RuleGraph.of(JOBS)
    graph.write(path)
    assert RuleGraph.read(path) == graph
    path.write_text('{"jobs": 3}')
    assert RuleGraph.read(path) is None
