from pathlib import Path

import pytest

from tests.support.setting import Setting


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    """A small model and dataset in a folder of their own."""
    return Setting.create(tmp_path)
