"""What a run has so far, from its score files: on any machine that sees them, while jobs run.

Each cell is the longest prefix of whole images that is there. What is known of a score file is kept
by its checksum, so that only new ones are read. Snakemake and its lock are not asked.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import ValidationError

from genclass.analysis.accuracy import MEASURED
from genclass.analysis.measure import Accuracy, MeasuredImages, ReplayedRace, judged, pooled
from genclass.analysis.metrics import Metrics, write_measured
from genclass.config import Config, Extent
from genclass.data.image_list import ImageList
from genclass.errors import GenclassError
from genclass.files import sha256_of, write_atomically
from genclass.paths import SoFar
from genclass.planning.allotment import controlled
from genclass.planning.budget import Wish
from genclass.planning.shard_size import Cell, cell_shards
from genclass.racing.noise import Noise
from genclass.reporting.claims import Claim, build_claims
from genclass.reporting.page import ReportSummary, render
from genclass.reporting.paper import Paper
from genclass.reporting.results import Results
from genclass.reporting.wishes import wishes
from genclass.scores.merge import CellScores, MergedShard, MergeRecord, check_part
from genclass.scores.noise_record import NoiseRecord
from genclass.scores.score_file import ScoreFile, Stamp
from genclass.scores.shards import Shard
from genclass.section import Section, Sha256
from genclass.specs.cells import specs_of
from genclass.specs.spec import Spec
from genclass.text import digest


@dataclass(frozen=True)
class CellSoFar:
    """How much of a cell is there.

    images: of the prefix; asked: by the config; apart: images behind a gap, under all trials.
    other_spec, damaged: score files that are left out.
    """

    images: int
    asked: int
    apart: int = 0
    other_spec: int = 0
    damaged: int = 0


def gather(config: Config) -> dict[Cell, CellSoFar]:
    """Measure what is there, into the folder `so-far` of the results.

    Raises:
        GenclassError: the folder cannot be written, or an image list or manifest is damaged.
    """
    asked = config.reported()
    config = controlled(config)
    files, specs = config.run.so_far, specs_of(config)
    lists: dict[str, ImageList] = {}
    found, used = {}, set()
    for cell, extent in config.cells().items():
        spec = specs.get(cell)
        if spec is None:
            found[cell] = CellSoFar(0, extent.images)
            _forget(files, cell)
            continue
        if cell[1] not in lists:
            lists[cell[1]] = ImageList.read(config.run.image_list(cell[1]))
        reader = _Reader(config, cell, extent, spec, lists[cell[1]])
        found[cell] = reader.measure()
        used |= reader.keys
    for path in files.parts.glob("*"):
        if path.name.partition(".")[0] not in used:
            path.unlink(missing_ok=True)
    # As the workflow records it: of another version's config it would be refused.
    write_atomically(files.config, json.dumps(json.loads(asked), indent=1) + "\n")
    return found


def render_so_far(config: Config) -> ReportSummary:
    """The page from what is there, in `so-far/report` of the results.

    Raises:
        GenclassError: see `gather` and `render`.
    """
    found = gather(config)
    return render(config.run.so_far, notes(found))


def claims_so_far(config: Config) -> list[Claim]:
    """What is decided by now.

    Raises:
        GenclassError: see `gather` and `build_claims`.
    """
    gather(config)
    return build_claims(Results(config.run.so_far), Paper.load())


def wishes_so_far(config: Config) -> tuple[list[Wish], list[Wish]]:
    """The comparisons that are not decided by now, and those that are.

    Raises:
        GenclassError: see `gather` and `wishes`.
    """
    if any(config.run.scores(*cell).is_dir() for cell in config.cells()):
        gather(config)
    return wishes(Results(config.run.so_far, config), Paper.load())


def notes(found: Mapping[Cell, CellSoFar]) -> list[str]:
    """What a reader of such a page must know, in sentences."""
    images = sum(cell.images for cell in found.values())
    asked = sum(cell.asked for cell in found.values())
    some = [cell for cell in found.values() if cell.images]
    done = sum(cell.images == cell.asked for cell in found.values())
    lines = [
        f"So far: {done} of {len(found)} evaluations are complete, {len(some) - done} are under "
        f"way; {images:,} of {asked:,} images."
    ]
    for number, what in (
        (sum(cell.apart for cell in found.values()), "images behind a gap, which count later"),
        (sum(cell.other_spec for cell in found.values()), "score files of another spec"),
        (sum(cell.damaged for cell in found.values()), "damaged score files"),
    ):
        if number:
            lines.append(f"Left out: {what}: {number:,}.")
    return lines


class _Known(Section):
    """What is kept of a part of a cell, beside its predictions."""

    accuracy: Accuracy
    control: ReplayedRace | None
    files: dict[str, Sha256]  # sha256 of the score files that it is from, by their names


class _Reader:
    """One cell: its score files, and what they say."""

    def __init__(
        self, config: Config, cell: Cell, extent: Extent, spec: Spec, images: ImageList
    ) -> None:
        self._config, self._cell, self._extent = config, cell, extent
        self._spec, self._images = spec, images
        self._files = config.run.so_far
        self.keys: set[str] = set()  # of the parts that are used

    def measure(self) -> CellSoFar:
        stamps: dict[Shard, tuple[Path, Stamp]] = {}
        other_spec = damaged = 0
        folder = self._config.run.scores(*self._cell)
        for path in sorted(folder.glob("images-*.safetensors")):
            try:
                stamp = Stamp.read(path)
            except GenclassError:
                damaged += 1
                continue
            shard = Shard.from_name(stamp.header.shard)
            if stamp.header.spec == self._spec.of(shard).sha256:
                stamps[shard] = path, stamp
            else:
                other_spec += 1
        while True:
            kept, images = self._prefix(stamps)
            headers = (stamps[shard][1].header for shard in kept)
            noise = next((header.noise for header in headers if header.noise), None)
            parts: list[MeasuredImages] = []
            bound: dict[str, Sha256] = {}
            self.keys = set()
            broken = None
            for start, stop in _ranges(kept, images, self._extent.exhaustive):
                race = start >= self._extent.exhaustive
                inside = [
                    s for s in kept if s.race == race and s.image_start <= start < s.image_stop
                ]
                part = self._part(start, stop, {shard: stamps[shard] for shard in inside}, noise)
                if isinstance(part, Shard):
                    broken = part
                    break
                known, frame = part
                parts.append(MeasuredImages(known.accuracy, known.control, frame))
                bound |= known.files
            if broken is None:
                break
            del stamps[broken]
            damaged += 1
        if images:
            self._write(kept, images, stamps, parts, bound, noise)
        else:
            _forget(self._files, self._cell)
        whole = sum(
            len(shard.images)
            for shard in stamps
            if shard.image_start >= images and shard.trial_start == 0
        )
        return CellSoFar(images, self._extent.images, whole, other_spec, damaged)

    def _prefix(self, stamps: Mapping[Shard, object]) -> tuple[list[Shard], int]:
        """The shards that the workflow would merge, and how many leading images they cover."""
        planned = cell_shards(self._config, self._cell, self._extent.images, stamps)
        gaps = [shard.image_start for shard in planned if shard not in stamps]
        images = min([*gaps, self._extent.images])
        there = self._there(images)
        return [s for s in planned if s in stamps and s.images_in(there.part(s.race))], images

    def _there(self, images: int) -> Extent:
        """Of the cell, the first images."""
        exhaustive = min(images, self._extent.exhaustive)
        return replace(self._extent, images=images, exhaustive=exhaustive)

    def _part(
        self,
        start: int,
        stop: int,
        shards: Mapping[Shard, tuple[Path, Stamp]],
        noise: NoiseRecord | None,
    ) -> tuple[_Known, pd.DataFrame] | Shard:
        """Some images under all trials; or the shard that is damaged."""
        trials = self._extent.trials
        content = [f"{shard.name} {stamp.checksum}" for shard, (_, stamp) in shards.items()]
        content += [noise.model_dump_json()] if noise and start < self._extent.exhaustive else []
        content.append(f"measured {MEASURED}")
        key = digest("\n".join([self._spec.sha256, f"{start} {stop} {trials}", *sorted(content)]))
        self.keys.add(key)
        stem = self._files.parts / key
        kept, table = stem.with_suffix(".json"), stem.with_suffix(".parquet")
        try:
            return _Known.model_validate_json(kept.read_bytes()), pd.read_parquet(table)
        except (OSError, ValidationError, ValueError):
            pass  # not there, or cut off: read again
        rows = self._images.rows[start:stop]
        classes = len(self._spec.candidates)
        scores = np.full((stop - start, trials, classes), np.nan, dtype=np.float32)
        files: dict[str, Sha256] = {}
        for shard, (path, _) in shards.items():
            try:
                part = ScoreFile.read(path)
                check_part(part, path, shard, self._spec, self._images.rows)
                files[path.name] = sha256_of(path)
            except (GenclassError, OSError):
                return shard
            last = min(shard.trial_stop, trials)
            first = start - shard.image_start
            scores[:, shard.trial_start : last] = part.scores[
                first : first + stop - start, : last - shard.trial_start
            ]
        exhaustive = max(0, min(stop, self._extent.exhaustive) - start)
        found = judged(
            CellScores(
                image_ids=[row.image_id for row in rows],
                spec=self._spec.sha256,
                racing=self._spec.races,
                exhaustive=exhaustive,
                class_ids=np.array(self._spec.candidates, dtype=np.int64),
                labels=np.array([row.class_id for row in rows], dtype=np.int64),
                scores=scores,
            ),
            self._spec,
            Noise.of(noise) if noise else None,
        )
        known, frame = (
            _Known(accuracy=found.accuracy, control=found.control, files=files),
            found.predictions,
        )
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False, compression="zstd")
        write_atomically(table, buffer.getvalue())
        write_atomically(kept, known.model_dump_json())
        return known, frame

    def _write(
        self,
        kept: Sequence[Shard],
        images: int,
        stamps: Mapping[Shard, tuple[Path, Stamp]],
        parts: Sequence[MeasuredImages],
        bound: Mapping[str, Sha256],
        noise: NoiseRecord | None,
    ) -> None:
        """Record, metrics and predictions of the prefix, unless they are there."""
        there = self._there(images)
        record = MergeRecord(
            spec=self._spec.sha256,
            images=images,
            trials=self._extent.trials,
            classes=len(self._spec.candidates),
            racing=self._spec.races,
            exhaustive=there.exhaustive,
            noise=noise,
            sha256=digest("\n".join(sorted(self.keys))),  # nothing is merged
            shards=[
                MergedShard(
                    **stamps[shard][1].header.model_dump(exclude={"noise"}),
                    file=str(stamps[shard][0]),
                    sha256=bound[stamps[shard][0].name],
                    images=len(shard.images_in(there.part(shard.race))),
                )
                for shard in kept
            ],
        )
        paths = [path(*self._cell) for path in (self._files.metrics, self._files.predictions)]
        place = self._files.record(*self._cell)
        if all(path.is_file() for path in (place, *paths)):
            try:
                if MergeRecord.read(place) == record and Metrics.read(paths[0]):
                    return
            except GenclassError:
                pass  # of another version
        self._spec.write(self._files.spec(*self._cell))
        metrics, predictions = pooled(parts, self._spec, record)
        record.write(place)
        write_measured(metrics, predictions, place, *paths)


def _ranges(shards: Sequence[Shard], images: int, exhaustive: int) -> list[tuple[int, int]]:
    """The first `images` cut where a shard starts or ends, and where races begin."""
    cuts = {min(end, images) for s in shards for end in (s.image_start, s.image_stop)}
    cuts.add(min(exhaustive, images))
    ordered = sorted(cuts)
    return list(itertools.pairwise(ordered))


def _forget(files: SoFar, cell: Cell) -> None:
    """Of a cell that nothing is there of any more."""
    for path in (files.record, files.metrics, files.predictions, files.spec):
        path(*cell).unlink(missing_ok=True)
