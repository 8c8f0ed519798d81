"""What a family of models is: one card each, and the registry of all that are known.

The package's own stand below. Others come from installed packages (the entry-point group
`genclass.families`, each entry a card) and from files of the user's (`plugins:` of a config).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

from genclass.errors import GenclassError
from genclass.families import (
    dit,
    encoders,
    image_classifier,
    llamagen,
    maskgit,
    mean_flow,
    randar,
    rar,
    var,
)
from genclass.families.card import (
    ROLES,
    UNNAMED,
    Card,
    Encoder,
    Family,
    MadeUp,
    Role,
    Scoring,
    System,
    Trial,
    Work,
)
from genclass.text import did_you_mean

__all__ = [
    "ENCODERS",
    "FAMILIES",
    "ROLES",
    "UNNAMED",
    "Card",
    "Encoder",
    "Family",
    "MadeUp",
    "Role",
    "Scoring",
    "System",
    "Trial",
    "Work",
    "family_of",
    "load_plugins",
    "plugin_of",
    "plugins_of_the_run",
]

GROUP = "genclass.families"
PLUGINS = "GENCLASS_PLUGINS"  # the environment variable, a JSON list of paths

FAMILIES: dict[str, type[Family]] = {}  # by architecture
ENCODERS: dict[str, type[Encoder]] = {}
_ORIGINS: dict[str, str] = {}  # architecture -> who claims it
_PLUGINS: dict[Path, str] = {}  # file -> sha256 of what was loaded


def register(card: type[Card], origin: str) -> None:
    """Make a card known under its architecture.

    Raises:
        GenclassError: the name is taken, or the class says no name.
    """
    tags: tuple[Any, ...] = get_args(card.model_fields["architecture"].annotation)
    if not (len(tags) == 1 and isinstance(tags[0], str)):
        raise GenclassError(
            f'{origin}: {card.__name__} needs `architecture: Literal["a_name"]`, the name by which '
            f"a config asks for it"
        )
    if _ORIGINS.get(tags[0], origin) != origin:
        raise GenclassError(
            f"{origin}: '{tags[0]}' is the name of a family of {_ORIGINS[tags[0]]}: choose another"
        )
    _ORIGINS[tags[0]] = origin
    if issubclass(card, Family):
        FAMILIES[tags[0]] = card
    elif issubclass(card, Encoder):
        ENCODERS[tags[0]] = card


def family_of(architecture: str) -> type[Family]:
    """
    Raises:
        GenclassError: no card has this name.
    """
    _load_installed()
    if architecture not in FAMILIES:
        raise GenclassError(
            f"unknown architecture '{architecture}': {did_you_mean(architecture, FAMILIES)}"
        )
    return FAMILIES[architecture]


def load_plugins(paths: Iterable[str | Path]) -> None:
    """Load the cards of Python files; one that was loaded and has not changed is not loaded again.

    Those of installed packages are loaded before.

    Raises:
        GenclassError: a file is missing, fails on import, defines no family, or claims a name that
            is taken; or a package's card does.
    """
    _load_installed()
    for path in map(Path, paths):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise GenclassError(f"plugin {path}: cannot be read: {error.strerror}") from None
        sha256 = hashlib.sha256(content).hexdigest()
        if _PLUGINS.get(path.resolve()) == sha256:
            continue
        module = _executed(path)
        found = [
            value
            for value in vars(module).values()
            if isinstance(value, type)
            and issubclass(value, Family | Encoder)
            and value.__module__ == module.__name__
        ]
        if not any(issubclass(card, Family) for card in found):
            raise GenclassError(
                f"plugin {path}: defines no family: a subclass of genclass.Family is needed"
            )
        for card in found:
            register(card, f"plugin {path}")
        _PLUGINS[path.resolve()] = sha256


def plugins_of_the_run() -> list[str]:
    """The plugins of the config, in a job of its workflow: the Snakefile sets the variable."""
    return list(json.loads(os.environ.get(PLUGINS, "[]")))


def plugin_of(card: Card) -> str | None:
    """The sha256 of the plugin that a card stands in; None: it is no plugin's."""
    module = importlib.import_module(type(card).__module__)
    return _PLUGINS.get(Path(str(module.__file__)).resolve())


def _executed(path: Path) -> ModuleType:
    """A Python file as a module, named by its path, so that its functions can be found again."""
    name = "genclass_plugin_" + hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise GenclassError(f"plugin {path}: no Python file: its name ends in .py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise GenclassError(
            f"plugin {path}: fails on import: {type(error).__name__}: {error}"
        ) from None
    return module


def _registered() -> None:
    families = (randar, rar, llamagen, var, maskgit, dit, mean_flow, image_classifier)
    for module in (*families, encoders):
        for value in vars(module).values():
            if (
                isinstance(value, type)
                and issubclass(value, Card)
                and value.__module__ == module.__name__
                and "architecture" in value.__annotations__
            ):
                register(value, "genclass")


@cache
def _load_installed() -> None:
    """Cards of installed packages; once, when first asked for: their modules import genclass."""
    for entry in entry_points(group=GROUP):
        try:
            register(entry.load(), f"package {entry.dist.name if entry.dist else entry.value}")
        except GenclassError:
            raise
        except Exception as error:
            raise GenclassError(
                f"entry point {entry.value} of {GROUP}: fails: {type(error).__name__}: {error}"
            ) from None


_registered()
