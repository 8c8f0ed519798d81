"""One line for what pydantic found wrong: the user's key, what is wrong with it, what to do."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from genclass.section import PATTERNS, Section
from genclass.text import did_you_mean


def explain(errors: list[Any], raw: Mapping[str, Any], kind: type[Section]) -> str:
    """One line for a pydantic failure of `kind` on a raw mapping."""
    error = max(
        errors, key=lambda e: len(e["loc"])
    )  # of a union's branches, the one that got furthest
    location, section = _locate(error["loc"], raw, kind)
    key = ".".join(location)
    if error["type"] == "extra_forbidden":
        hint = did_you_mean(location[-1], section.model_fields) if section else "remove it"
        return f"unknown key '{key}': {hint}"
    if error["type"] == "missing":
        return f"'{key}' is missing: add it"
    if error["type"] == "union_tag_invalid":
        tag, expected = error["ctx"]["tag"], error["ctx"]["expected_tags"].replace("'", "")
        field = error["ctx"]["discriminator"].strip("'")
        return f"'{key}.{field}' is '{tag}': {did_you_mean(tag, expected.split(', '))}"
    if error["type"] == "union_tag_not_found":
        return f"'{key}' needs the key {error['ctx']['discriminator']}"
    if error["type"] == "string_pattern_mismatch":
        rule = dict(PATTERNS.values())[error["ctx"]["pattern"]]
        return f"'{key}' is {_quoted(error['input'])}: {rule}"
    if error["type"] == "literal_error":
        given, expected = str(error["input"]), error["ctx"]["expected"].replace("'", "")
        known = expected.replace(" or ", ", ").split(", ")
        return f"'{key}' is '{given}': {did_you_mean(given, known)}"
    shown = json.dumps(error["input"], default=str)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return f"'{key}' is {shown}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _quoted(text: str) -> str:
    """In one line, however long, and without control characters."""
    text = text if len(text) <= 60 else f"{text[:57]}..."
    return f"'{text}'" if text.isprintable() else ascii(text)


def _locate(
    parts: Iterable[str | int], raw: Any, kind: type[Section]
) -> tuple[list[str], type[Section] | None]:
    """The user's key behind a pydantic location, and the section that the key stands in.

    Pydantic puts the branches of unions (tags, class names) between the keys; they are dropped.
    """
    parts = list(parts)
    location: list[str] = []
    inside: list[type[Section]] = [kind]  # the sections that the current mapping may be
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        is_key = (isinstance(raw, dict) and part in raw) or isinstance(part, int)
        missing = (
            last and isinstance(raw, dict) and part not in {t for s in inside for t in _tags(s)}
        )
        if not (is_key or missing):
            inside = [s for s in inside if part in (*_tags(s), s.__name__)] or inside
            continue
        location.append(str(part))
        if last:
            return location, inside[0] if len(inside) == 1 else None
        raw = raw[part]
        fields = [s.model_fields[part] for s in inside if part in s.model_fields]
        inside = [s for f in fields for s in _sections_in(f.annotation)] or inside
    return location, None


def _sections_in(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [s for part in getattr(annotation, "__args__", ()) for s in _sections_in(part)]


def _tags(section: type[Section]) -> tuple[str, ...]:
    """The values of a section's discriminator; a model's is in its network."""
    if network := section.model_fields.get("network"):
        return next((_tags(s) for s in _sections_in(network.annotation)), ())
    fields = (section.model_fields.get(name) for name in ("architecture", "kind"))
    return next((getattr(f.annotation, "__args__", ()) for f in fields if f), ())
