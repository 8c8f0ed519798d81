"""From YAML files to a checked config."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from genclass.config.checks import check
from genclass.config.config import Config, config_type
from genclass.config.messages import explain
from genclass.errors import GenclassError
from genclass.families import FAMILIES, load_plugins
from genclass.files import reason_of
from genclass.text import did_you_mean

_MOST_LETTERS, _MOST_VALUES, _DEEPEST = 10_000_000, 1_000_000, 50


def parse_config(raw: Mapping[str, Any], origin: str) -> Config:
    """Check a loaded config. `origin` (its file) begins every message.

    Raises:
        GenclassError: one line for the first thing that is wrong.
    """
    plugins = raw.get("plugins", [])
    if isinstance(plugins, list) and all(isinstance(plugin, str) for plugin in plugins):
        try:
            load_plugins(plugins)
        except GenclassError as error:
            raise GenclassError(f"{origin}: {error}") from None
    _check_architectures(raw, origin)
    typed = config_type()
    try:
        config = typed.model_validate(raw)
    except ValidationError as error:
        raise GenclassError(f"{origin}: {explain(error.errors(), raw, typed)}") from None
    if config.exhaustive == "all":
        config = config.without_races()
    check(config, origin)
    return config


def _check_architectures(raw: Mapping[str, Any], origin: str) -> None:
    """Of the networks: the types of everything else in a model depend on them."""
    models = raw.get("models")
    for name, model in models.items() if isinstance(models, Mapping) else ():
        network = model.get("network") if isinstance(model, Mapping) else None
        if not isinstance(network, Mapping):
            continue  # said with everything else that is wrong
        key, architecture = f"models.{name}.network", network.get("architecture")
        if architecture is None:
            raise GenclassError(f"{origin}: '{key}' needs the key architecture")
        if architecture not in FAMILIES:
            raise GenclassError(
                f"{origin}: '{key}.architecture' is '{architecture}': "
                f"{did_you_mean(str(architecture), FAMILIES)}"
            )


def load_config(*paths: str | Path) -> Config:
    """Read and check a config file. Further files override single keys, as Snakemake's do.

    Raises:
        GenclassError: a file is missing, no YAML, or holds something wrong.
    """
    raw: dict[str, Any] = {}
    for path in paths:
        raw = _overridden(raw, read_config(path))
    return parse_config(raw, " + ".join(map(str, paths)))


def read_config(path: str | Path) -> dict[str, Any]:
    """One config file, not checked yet: a mapping, in which no key stands twice.

    Raises:
        GenclassError: the file is missing or no such YAML.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        if len(text) > _MOST_LETTERS:
            raise GenclassError(f"{len(text):,} letters are too many for a config")
        raw = yaml.load(text, _StrictLoader)
        _check_size(raw)
    except OSError as error:
        raise GenclassError(f"{path}: cannot read the config: {reason_of(error)}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, or no such date
        raise GenclassError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    except GenclassError as error:
        raise GenclassError(f"{path}: {error}") from None
    if not isinstance(raw, dict):
        raise GenclassError(f"{path}: a config is a mapping with keys such as models and datasets")
    return raw


def schema() -> str:
    """The JSON schema of config.yaml, for editors; of families that it does not know, all goes."""
    content = config_type().model_json_schema()
    (models,) = content["properties"]["models"]["patternProperties"].values()
    known = models["oneOf"]
    unknown = {"properties": {"architecture": {"not": {"enum": sorted(FAMILIES)}}}}
    known.append({"type": "object", "properties": {"network": unknown}, "required": ["network"]})
    return json.dumps(content, indent=1) + "\n"


def _check_size(raw: Any) -> None:
    """Aliases (`*name`) are one value that counts wherever it stands: a few lines can be billions.

    Raises:
        GenclassError: there are too many values, or one holds itself.
    """
    sizes: dict[int, int | None] = {}  # None: being counted

    def size_of(value: Any) -> int:
        if not isinstance(value, dict | list):
            return 1
        if id(value) not in sizes:
            sizes[id(value)] = None
            inside = value.values() if isinstance(value, dict) else value
            sizes[id(value)] = 1 + sum(map(size_of, inside))
        size = sizes[id(value)]
        if size is None:
            raise GenclassError("a value holds itself by an alias (*name): write it out")
        if size > _MOST_VALUES:
            raise GenclassError(
                f"its aliases (*name) multiply to more than {_MOST_VALUES:,} values: write out "
                f"what is meant"
            )
        return size

    size_of(raw)


class _StrictLoader(yaml.SafeLoader):
    """Of a key that stands twice, YAML would silently take the last: say so instead.

    Nor does it take what is nested without end, and characters that no path can have.
    """

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        self.depth += 1
        line = self.line + 1
        if self.depth > _DEEPEST:
            raise GenclassError(f"line {line}: nested more than {_DEEPEST} deep: no config is")
        node = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(node, yaml.ScalarNode) and "\0" in node.value:
            line = node.start_mark.line + 1
            raise GenclassError(f"line {line}: a text with a NUL character: remove it")
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)  # before `<<` brings in keys of others
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        seen: dict[tuple[str, str], yaml.ScalarNode] = {}
        for key in keys:
            first = seen.setdefault((key.tag, key.value), key)
            if first is not key:
                raise GenclassError(
                    f"line {key.start_mark.line + 1}: '{key.value}' stands in line "
                    f"{first.start_mark.line + 1} already: rename or remove one"
                )
        return node


def _overridden(raw: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings are merged key by key, everything else is replaced."""
    merged = dict(raw)
    for key, value in other.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = _overridden(old, value)
        merged[key] = value
    return merged
