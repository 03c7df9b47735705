"""The kinds of consortium on the command line."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from polysite.cli import app
from polysite.errors import ConfigError
from polysite.phantom.kinds import KINDS


@pytest.mark.parametrize("kind", list(KINDS))
def test_hospitals_are_listed(kind: str) -> None:
    shown = CliRunner().invoke(app, ["phantom", "--kind", kind, "--list"])
    assert shown.exit_code == 0
    for site in KINDS[kind].sites():
        assert site.name in shown.output
        assert site.model in shown.output


def test_no_hospital_has_two_kinds() -> None:
    names = [site.name for kind in KINDS.values() for site in kind.sites()]
    assert len(names) == len(set(names))


def test_a_cardiac_consortium_is_written(tmp_path: Path) -> None:
    arguments = ["phantom", str(tmp_path / "out"), "--kind", "cardiac", "--sites", "1", "--subjects", "1"]
    done = CliRunner().invoke(app, [*arguments, "--voxel-mm", "8"])
    assert done.exit_code == 0
    assert (tmp_path / "out/ivy/sub-ivy01/anat/sub-ivy01_rec-ED_cine.nii.gz").is_file()


def test_another_kind_is_refused() -> None:
    refused = CliRunner().invoke(app, ["phantom", "--kind", "heart", "--list"])
    assert isinstance(refused.exception, ConfigError)
    assert "choose one of: brain, cardiac" in str(refused.exception)
