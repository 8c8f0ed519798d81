"""What torch.compile made is kept for later jobs, and only what is the user's own is run."""

import os
from pathlib import Path

import pytest
import torch

from genclass.jobs.compile_cache import CompileCache
from tests.support.setting import Setting

ARTIFACTS = b"what was compiled"


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[bytes]:
    """What torch was given; it has something to keep, and nothing is compiled here."""
    given: list[bytes] = []
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "node"))
    monkeypatch.setattr(torch.compiler, "save_cache_artifacts", lambda: (ARTIFACTS, None))
    monkeypatch.setattr(
        torch.compiler, "load_cache_artifacts", lambda content: given.append(content) or True
    )
    return given


def cache(setting: Setting, tmp_path: Path, class_batch: int = 4) -> CompileCache:
    return CompileCache(tmp_path / "compiled", setting.spec, class_batch)


def test_a_later_job_takes_what_an_earlier_one_kept(
    setting: Setting, tmp_path: Path, loaded: list[bytes]
) -> None:
    first = cache(setting, tmp_path)
    assert not first.load()
    first.save()
    assert first.path.stat().st_mode & 0o777 == 0o600
    assert cache(setting, tmp_path).load()
    assert loaded == [ARTIFACTS]
    assert not cache(setting, tmp_path, class_batch=8).load()  # another shape


@pytest.mark.parametrize("harm", ["cut", "changed", "writable", "link"])
def test_what_is_damaged_or_not_ones_own_is_thrown_away(
    setting: Setting, tmp_path: Path, loaded: list[bytes], harm: str
) -> None:
    first = cache(setting, tmp_path)
    first.load()
    first.save()
    content = first.path.read_bytes()
    if harm == "cut":
        first.path.write_bytes(content[:-1])
    elif harm == "changed":
        first.path.write_bytes(content[:-1] + b"!")
    elif harm == "writable":
        first.path.chmod(0o666)
    else:
        other = tmp_path / "other"
        first.path.rename(other)
        first.path.symlink_to(other)
    assert not cache(setting, tmp_path).load()
    assert loaded == []
    assert not os.path.lexists(first.path)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_a_gpu_trials_of_few_classes_share_a_batch_and_give_the_same_scores(
    setting: Setting, tmp_path: Path
) -> None:
    from genclass.data.images import load_image
    from genclass.scorers.draws import Draws
    from genclass.scorers.fitting import score_image

    scores = {}
    for name in ("cpu", "cuda"):
        scorer = setting.spec.system.load(setting.files, torch.device(name))
        row = setting.images.rows[0]
        image = load_image(setting.folder / "images", row, 0)
        prepared = scorer.prepare(image, Draws(0, "small", row.image_id))
        scores[name], _ = score_image(scorer, prepared, range(4), setting.spec.candidates, 32)
    assert scores["cuda"] == pytest.approx(scores["cpu"], rel=1e-4, abs=1e-3)
