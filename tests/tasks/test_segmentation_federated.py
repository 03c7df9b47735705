"""Segmentation in a federation: what leaves a site whose classes are its own, and pooled data."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from heart_cases import LABELS, HeartCase
from polysite import recipe
from polysite.engines.here import Here
from polysite.federation import server
from polysite.federation.crew import Crew, assemble
from polysite.federation.saver import Saver
from polysite.federation.tensor_files import read_tensors


@pytest.fixture
def saver() -> Iterator[Saver]:
    saver = Saver()
    yield saver
    saver.close()


def federated(folder: Path, saver: Saver, algorithm: dict[str, Any], **over: Any) -> tuple[Crew, list[dict]]:
    """Two rounds of a tiny network at two sites, one of which validates."""
    raw = {
        "name": "heart",
        "contrasts": ["ED"],
        "sites": {
            name: {"data": {"format": "bids", "path": "nowhere"}, **given} for name, given in LABELS.items()
        },
        "task": {"name": "segmentation", "image_size": 24},
        "network": {"name": "fedcrld", "width": 8},
        "algorithm": algorithm,
        "training": {"rounds": 2, "steps_per_round": 1},
    }
    run = recipe.build(recipe.merge(raw, over))
    cases = {
        "ivy": {"train": [HeartCase(seed=0), HeartCase(seed=1)], "validation": [HeartCase(seed=2)]},
        "nave": {"train": [HeartCase(seed=3, scar=True, shape=(3, 24, 24))]},
    }
    crew = assemble(run, cases, folder, saver)
    events: list[dict] = []
    server.federate(crew, Here(Here.Settings(threads=1), crew), events.append)
    return crew, events


def model(crew: Crew, site: str) -> dict[str, torch.Tensor]:
    return read_tensors(crew.folder / "sites" / site / "model.safetensors")


def test_everything_but_the_heads_is_averaged_where_classes_differ(tmp_path: Path, saver: Saver) -> None:
    crew, events = federated(tmp_path, saver, {"name": "fedavg"})
    ivy, nave = model(crew, "ivy"), model(crew, "nave")
    common = set(ivy) & set(nave)
    assert set(crew.plans["ivy"].shared) == common
    assert set(crew.plans["ivy"].private) == {
        f"segmenter.heads.LV-MYO-RV.{kind}" for kind in ("weight", "bias")
    }
    assert all(torch.equal(ivy[name], nave[name]) for name in common)
    scores = [event["validation"] for event in events if event.get("validation")]
    assert scores
    assert all(set(score) == {"dice", "loss"} for score in scores)


def test_only_the_global_encoder_is_averaged_where_the_method_says_so(tmp_path: Path, saver: Saver) -> None:
    private = [f"segmenter.{part}.*" for part in ("local_encoder", "relocalization", "decoder", "heads")]
    crew, _ = federated(tmp_path, saver, {"name": "fedavg", "private": private})
    shared = set(crew.plans["ivy"].shared)
    assert len(shared) == 32
    assert all(name.startswith("segmenter.global_encoder.") for name in shared)
    ivy, nave = model(crew, "ivy"), model(crew, "nave")
    for name in set(ivy) & set(nave):
        assert torch.equal(ivy[name], nave[name]) == (name in shared), name


def test_pooled_data_train_one_model_with_all_heads(tmp_path: Path, saver: Saver) -> None:
    crew, events = federated(tmp_path, saver, {"name": "central"})
    heads = {name.split(".")[2] for name in crew.plans["pooled"].private if ".heads." in name}
    assert heads == {"LV-MYO-RV", "LV-MYO-scar"}
    assert not crew.plans["pooled"].shared
    losses = [event["losses"]["segmentation"] for event in events if event.get("losses")]
    assert len(losses) == 2


def test_one_list_of_classes_is_one_head_that_travels(tmp_path: Path, saver: Saver) -> None:
    part_of = {"sites": {"ivy": {"part_of": {"scar": "MYO"}}}}
    classes = {"task": {"classes": ["LV", "MYO", "RV", "scar"]}}
    crew, _ = federated(tmp_path, saver, {"name": "fedavg"}, **part_of, **classes)
    assert not crew.plans["ivy"].private
    ivy, nave = model(crew, "ivy"), model(crew, "nave")
    assert ivy.keys() == nave.keys()
    assert ivy["segmenter.heads.LV-MYO-RV-scar.weight"].shape[0] == 5
    assert all(torch.equal(tensor, nave[name]) for name, tensor in ivy.items())


@pytest.mark.parametrize("name", ["fedprox", "fedbn", "ditto", "moon", "fedcrld"])
def test_every_method_trains_sites_whose_classes_differ(tmp_path: Path, saver: Saver, name: str) -> None:
    crew, events = federated(tmp_path, saver, {"name": name}, training={"epochs_per_round": 2})
    for site in ("ivy", "nave"):
        plan = crew.plans[site]
        assert set(model(crew, site)) == set(plan.shared) | set(plan.private)
        assert not any(".heads." in key for key in plan.shared)
    losses = [event["losses"] for event in events if event["event"] == "site"]
    assert all({"segmentation", "dice_loss", "cross_entropy"} <= set(each) for each in losses)
    kept, _ = crew.sites["nave"].store.load(2, prefix="memory/")
    prefixes = {key.split("/")[0] for key in kept}
    remembered = {"ditto": {"personal", "moments"}, "moon": {"previous"}, "fedcrld": {"teacher"}}
    assert prefixes == remembered.get(name, set())
