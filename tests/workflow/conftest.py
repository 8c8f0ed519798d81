from pathlib import Path

import pytest

from tests.support.project import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project in which nothing has run yet."""
    return Project.create(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that ran to its end; tests leave it as they find it."""
    project = Project.create(tmp_path_factory.mktemp("finished"))
    project.snakemake()
    return project
