"""Hearts, FedCRLD, and int8 values: in one process, in workers, and over mutual TLS, the same bytes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hospitals import states
from polysite import recipe
from polysite.run import create, train
from processes import Stage
from small_runs import digests

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

CENTRES = ("ivy", "juno", "kent")


def hearts(folder: Path, **over: Any) -> dict[str, Any]:
    """A run of three phantom centres."""
    raw: dict[str, Any] = {
        "name": "small",
        "cache": str(folder / "cache"),
        "contrasts": ["ED", "ES"],
        "sites": {
            centre: {
                "data": {
                    "format": "phantom",
                    "kind": "cardiac",
                    "hospital": centre,
                    "n_subjects": 2,
                    "voxel_mm": 6,
                },
                "labels": {"LV": 1, "MYO": 2, "RV": 3},
            }
            for centre in CENTRES
        },
        "task": {"name": "segmentation", "image_size": 24},
        "network": {"name": "fedcrld", "width": 8},
        "algorithm": {"name": "fedcrld"},
        "prepare": {"spacing_mm": [6, 6, None]},
        "training": {"rounds": 3, "steps_per_round": 2, "validation_slices": 4},
        "split": {"validation": 0.5, "test": 0.0},
        "engine": {"name": "here", "threads": 1},
    }
    return recipe.merge(raw, over)


@pytest.mark.parametrize("exchange", [{}, {"values": "int8", "clip": 1.0}], ids=["plain", "int8"])
def test_fedcrld_leaves_the_same_bytes_on_every_engine(
    stage: Callable[..., Stage], tmp_path: Path, consortium: Path, exchange: dict[str, Any]
) -> None:
    found = {}
    for engine in ({"name": "here", "threads": 1}, {"name": "processes", "workers": 2}):
        folder = tmp_path / "alone" / engine["name"]
        create(recipe.build(hearts(consortium, engine=engine, exchange=exchange)), folder)
        train(folder)
        found[engine["name"]] = digests(folder, "*.safetensors")
    play = stage()
    play.raw = hearts(consortium, exchange=exchange)
    play.folder = tmp_path / "across"
    play.folder.mkdir()
    for centre in CENTRES:
        play.write_site(centre, policy={"leaves": ["*"]})
    hospitals = play.join_all("--once")
    play.serve().ended(0)
    for hospital in hospitals.values():
        hospital.ended(0)
    assert found["here"] == found["processes"] == states(digests(play.folder, "*.safetensors"))
    assert len(found["here"]) == 3 * (2 * 2 + 1) + (2 + 1)  # two versions and a model; sites have outboxes
