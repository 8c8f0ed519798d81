"""The workflow's rules, what runs after what, and how many jobs of each: recorded, and drawn."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
from markupsafe import escape

from genclass.files import write_atomically

_ROW, _HEIGHT, _GAP = 46, 28, 18  # pixels: from layer to layer, of a box, between two of a layer
_LETTER = 7.3  # pixels of a letter of the label, about


@dataclass(frozen=True)
class RuleGraph:
    """jobs: of each rule; after: of each rule the ones whose outputs it reads."""

    jobs: dict[str, int]
    after: dict[str, list[str]]

    @classmethod
    def of(cls, dependencies: Iterable[tuple[str, Iterable[str]]]) -> RuleGraph:
        """From every job's rule and the rules of the jobs that it depends on."""
        jobs: dict[str, int] = {}
        after: dict[str, set[str]] = {}
        for rule, others in dependencies:
            jobs[rule] = jobs.get(rule, 0) + 1
            after.setdefault(rule, set()).update(others)
        rules = sorted(jobs)
        return cls({r: jobs[r] for r in rules}, {r: sorted(after[r] - {r}) for r in rules})

    def write(self, path: str | Path) -> None:
        text = json.dumps({"jobs": self.jobs, "after": self.after}, indent=1)
        write_atomically(path, text + "\n")

    @classmethod
    def read(cls, path: str | Path) -> RuleGraph | None:
        """What `write` wrote; None where it is missing or damaged."""
        try:
            value = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(dict(value["jobs"]), {r: list(o) for r, o in value["after"].items()})
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            return None

    @property
    def layers(self) -> list[list[str]]:
        """Rules from first to last, each as late as what reads it allows."""
        backwards = nx.DiGraph(_edges(self.after))
        backwards.add_nodes_from(self.after)
        return [sorted(layer) for layer in nx.topological_generations(backwards)][::-1]

    @property
    def text(self) -> str:
        """For those who do not see it: each rule and what it runs after."""
        rules = [rule for layer in self.layers for rule in layer]
        return "; ".join(
            f"{rule} after {', '.join(self.after[rule])}" if self.after.get(rule) else rule
            for rule in rules
        )

    def svg(self) -> str:
        """Drawn from top to bottom, without what follows from other arrows; for inside of HTML.

        Its colours are the page's: classes `rule` (boxes), `count`, `after` and `head` (arrows).
        """
        layers = self.layers
        direct = nx.transitive_reduction(nx.DiGraph(_edges(self.after)))
        counts = {rule: f"× {number:,}" for rule, number in self.jobs.items()}
        widths = {rule: _LETTER * (len(rule) + len(counts[rule]) + 1) + 24 for rule in counts}
        spans = [sum(widths[r] for r in layer) + _GAP * (len(layer) - 1) for layer in layers]
        total = max(spans, default=0) + 2
        middles: dict[str, tuple[float, float]] = {}  # of each box's top edge
        for row, (layer, span) in enumerate(zip(layers, spans, strict=True)):
            left = (total - span) / 2
            for rule in layer:
                middles[rule] = left + widths[rule] / 2, row * _ROW + 1
                left += widths[rule] + _GAP
        parts = []
        for rule, earlier in sorted(direct.edges):
            (x2, y2), (x1, y1) = middles[rule], middles[earlier]
            y1, bend = y1 + _HEIGHT, (y2 - y1 - _HEIGHT) / 2
            path = (
                f"M{x1:.1f} {y1} C{x1:.1f} {y1 + bend:.1f} {x2:.1f} {y2 - bend:.1f} {x2:.1f} {y2}"
            )
            parts.append(f'<path class="after" d="{path}"/>')
            parts.append(f'<path class="head" d="M{x2 - 4:.1f} {y2 - 7} h8 l-4 7 z"/>')
        for rule, (x, y) in middles.items():
            parts.append(
                f'<rect class="rule" x="{x - widths[rule] / 2:.1f}" y="{y}" rx="5"'
                f' width="{widths[rule]:.1f}" height="{_HEIGHT}"/>'
                f'<text x="{x:.1f}" y="{y + 18}" text-anchor="middle">{escape(rule)}'
                f' <tspan class="count">{counts[rule]}</tspan></text>'
            )
        height = len(layers) * _ROW - (_ROW - _HEIGHT) + 2
        return (
            f'<svg class="rules" role="img" aria-label="{escape(self.text)}"'
            f' viewBox="0 0 {total:.0f} {height}" width="{total:.0f}" height="{height}">'
            + "".join(parts)
            + "</svg>"
        )


def _edges(after: Mapping[str, Iterable[str]]) -> list[tuple[str, str]]:
    """From each rule to those before it."""
    return [(rule, earlier) for rule, others in after.items() for earlier in others]
