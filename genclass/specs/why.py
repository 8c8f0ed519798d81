"""Why: which key of a cell's spec changed, so that its scores are computed anew."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genclass.config import Config
from genclass.errors import GenclassError
from genclass.scores.score_file import Index, read_safetensors
from genclass.scores.shards import Shard
from genclass.specs.cells import specs_of
from genclass.specs.spec import Spec
from genclass.text import did_you_mean

# What a key of the spec is, for people; the longest beginning that fits counts.
_MEANINGS = {
    "seed": "the config's seed: every order, latent and noise",
    "dataset": "the dataset's name",
    "image_list": "the images that are evaluated, their labels or their order",
    "border": "pixels cut off each side of an image (the dataset's layout)",
    "candidates": "the classes that are scored (the dataset's labels and candidates)",
    "image_size": "the model's image_size",
    "network": "the model's network section",
    "encoder": "the model's encoder section",
    "classifier": "the model's classifier section",
    "strategy": "the model's strategy",
    "budget": "the trials of a race, which depends on them",
    "files": "the content of a checkpoint",
    "versions": "the code of a family or encoder may give other numbers than before",
    "plugin": "the text of the plugin that the family stands in",
}
_SHOWN = 60  # characters of a value


@dataclass(frozen=True)
class Change:
    """One key that differs; a value that stands at its default is None."""

    key: str  # dotted, for example `classifier.latent_noise`
    old: Any
    new: Any

    @property
    def meaning(self) -> str:
        return _MEANINGS[self.key.split(".")[0]]


@dataclass(frozen=True)
class Verdict:
    """What stands on disk of a cell or one shard of it, against what the config asks for now."""

    what: str  # a path
    reason: str  # in words; empty: it is as the config asks
    changes: list[Change] = field(default_factory=list)


def changes(old: Spec, new: Spec) -> list[Change]:
    """What differs between two specs, key by key."""
    before, after = (dict(_flat(json.loads(spec.text))) for spec in (old, new))
    return [
        Change(key, before.get(key), after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def why(config: Config, model: str, dataset: str, shard: str | None = None) -> list[Verdict]:
    """Of a cell's spec file and its score files (or one shard's), why they would be made again.

    Raises:
        GenclassError: the config evaluates no such cell, or its inputs are not there yet.
    """
    if (model, dataset) not in config.cells():
        known = [f"{model} on {dataset}" for model, dataset in config.cells()]
        raise GenclassError(
            f"the config evaluates no '{model} on {dataset}': "
            f"{did_you_mean(f'{model} on {dataset}', known)}"
        )
    asked = specs_of(config).get((model, dataset))
    if asked is None:
        raise GenclassError(f"{model} on {dataset}: {_missing_input(config, model, dataset)}")
    run = config.run
    verdicts = [_of_spec_file(run.spec(model, dataset), asked)]
    if shard is not None:
        verdicts.append(_of_score_file(run.shard(model, dataset, shard), asked))
    else:
        files = sorted(run.scores(model, dataset).glob("images-*.safetensors"))
        verdicts += [_of_score_file(file, asked) for file in files]
    return verdicts


def _missing_input(config: Config, model: str, dataset: str) -> str:
    names = config.models[model].system.checkpoints.values()
    needed = [config.run.manifest("checkpoints", name) for name in names]
    absent = [p for p in [*needed, config.run.image_list(dataset)] if not p.is_file()]
    return f"is evaluated for the first time: {absent[0]} is not there yet"


def _of_spec_file(path: Path, asked: Spec) -> Verdict:
    if not path.is_file():
        return Verdict(str(path), "not there yet: the rule specify makes it")
    try:
        found = Spec.read(path)
    except GenclassError:
        return Verdict(str(path), "no spec of this version of genclass: it is made again")
    different = changes(found, asked)
    return Verdict(str(path), "the config asks for another now" if different else "", different)


def _of_score_file(path: Path, asked: Spec) -> Verdict:
    if not path.is_file():
        return Verdict(str(path), "not there yet: the rule evaluate makes it")
    try:
        found = Spec.parse(Index.read(path).spec, str(path))
    except GenclassError as error:
        try:
            older = "spec" not in read_safetensors(path, ())[1]
        except GenclassError:
            older = False
        if older:
            return Verdict(
                str(path),
                "made by an older version of genclass, which did not write the spec into it: "
                "computed anew, once",
            )
        return Verdict(str(path), str(error).removeprefix(f"{path}: "))
    different = changes(found, asked.of(Shard.from_name(path.name)))
    return Verdict(str(path), "scored under another spec" if different else "", different)


def shown(value: Any) -> str:
    """A value of a spec, for a person."""
    if value is None:
        return "(default)"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
