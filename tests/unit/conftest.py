from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.families import registry_as_before
from tests.support.setting import Setting


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    """A small model and dataset in a folder of their own."""
    return Setting.create(tmp_path)


@pytest.fixture
def registry() -> Iterator[None]:
    """Families may be registered: they are forgotten after the test."""
    with registry_as_before():
        yield
