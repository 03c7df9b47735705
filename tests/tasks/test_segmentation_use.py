"""Prediction and validation of segmentation: windows, empty classes, precision."""

import copy

import numpy as np
import pytest
import torch

from heart_cases import HeartCase, heart_task, same, states, trained
from polysite.data.frame import about_centre, unframe
from polysite.networks.segmented import Segmented
from polysite.tasks.overlap import dice_scores
from polysite.tasks.segmentation import SegmentationModel


@pytest.mark.parametrize("shape", [(4, 24, 24), (3, 37, 29), (1, 9, 40)])
def test_a_prediction_is_the_network_on_the_training_window_and_background_elsewhere(
    shape: tuple[int, int, int],
) -> None:
    task, case = heart_task(), HeartCase(shape=shape, labelled=False)
    model = task.build("ivy", 1)
    found = task.predict(model, case, "ivy")
    assert found.shape == (4, *shape)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)
    window = about_centre(shape, task.settings.image_size)
    volume = case.image.astype(np.float32)
    image = torch.from_numpy(window.cut(volume, fill=float(volume.min())))[None, None]
    with torch.no_grad():
        expected = model.segmenter(image, "LV-MYO-RV").logits.softmax(1)[0]
    seen = window.cut(np.ones(shape, np.float32), fill=0.0) > 0
    assert np.array_equal(window.cut(found, fill=0.0)[:, seen], expected.numpy()[:, seen])
    outside = unframe(np.zeros(expected.shape[1:], np.float32), window) < 0
    assert (found[0, outside] == 1).all()
    assert not found[1:, outside].any()
    assert np.array_equal(found, task.predict(model, case, "ivy"))


def test_a_volume_below_the_networks_least_size_is_padded() -> None:
    task, case = heart_task(), HeartCase(shape=(3, 7, 20))
    found = task.predict(task.build("ivy", 1), case, "ivy")
    assert found.shape == (4, 3, 7, 20)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)


def test_windows_cover_a_large_volume_and_one_that_is_large_enough_is_none() -> None:
    task, case = heart_task(window=(16, 24)), HeartCase(shape=(3, 37, 29))
    model = task.build("ivy", 1)
    found = task.predict(model, case, "ivy")
    assert found.shape == (4, 3, 37, 29)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)
    assert np.array_equal(found, task.predict(model, case, "ivy"))
    whole = heart_task(image_size=(37, 29)).predict(model, case, "ivy")
    assert not np.array_equal(found, whole)
    assert np.array_equal(heart_task(window=40).predict(model, case, "ivy"), whole)

    class Constant(torch.nn.Module):
        min_size = 8

        def forward(self, image: torch.Tensor, head: str) -> Segmented:
            assert image.shape[2:] == (3, 16, 24)
            return Segmented(
                torch.log(torch.tensor([0.1, 0.2, 0.3, 0.4]))
                .view(1, 4, 1, 1, 1)
                .expand(1, 4, *image.shape[2:]),
                {},
            )

    model.segmenter = Constant()
    np.testing.assert_allclose(
        task.predict(model, case, "ivy"),
        np.full((4, 3, 37, 29), 0.1) * np.arange(1, 5)[:, None, None, None],
        atol=1e-6,
    )


def test_predicting_and_validating_change_nothing() -> None:
    task = heart_task()
    model = task.build("ivy", 1)
    before = copy.deepcopy(states(model))
    data = task.data("ivy", [HeartCase()])
    assert task.validate(model, data, 4, seed=1) == task.validate(model, data, 4, seed=1)
    task.predict(model, HeartCase(), "ivy")
    assert same(before, states(model))


def test_validation_of_a_network_that_knows_the_answer() -> None:
    task, case = heart_task(), HeartCase()
    labels = torch.from_numpy(case.raw.astype(np.int64))

    class Oracle(torch.nn.Module):
        def forward(self, image: torch.Tensor, head: str) -> Segmented:
            return Segmented(50.0 * torch.nn.functional.one_hot(labels, 4).movedim(3, 0)[None].float(), {})

    got = task.validate(SegmentationModel(Oracle()), task.data("ivy", [case]), 4, seed=0)
    assert got["dice"] == 1
    assert got["loss"] < 1e-3


def test_dice_of_what_a_site_labels() -> None:
    labels = torch.tensor([0, 0, 1, 2]).reshape(1, 1, 1, 4)
    found = torch.nn.functional.one_hot(torch.tensor([3, 0, 1, 3]), 4).float().T.reshape(1, 4, 1, 1, 4)
    assert dice_scores(found, labels).tolist() == [1.0, 0.0, 0.0]
    assert dice_scores(found, labels, torch.tensor([[0, 1, 2, 0]])).tolist() == [1.0, 0.0]
    as_muscle = torch.tensor([[0, 1, 2, 2]])  # class 3 is part of class 2 here
    assert dice_scores(found, labels, as_muscle).tolist() == pytest.approx([1.0, 2 / 3])


def test_bfloat16_is_close_to_float32() -> None:
    found = [
        heart_task(training={"precision": precision, "channels_last": last})
        for precision, last in (("float32", False), ("bfloat16", False), ("bfloat16", True))
    ]
    made = [task.predict(task.build("ivy", 1), HeartCase(), "ivy") for task in found]
    for rough in made[1:]:
        assert 0 < np.abs(rough - made[0]).max() < 0.05
    _, losses = trained(found[1])
    _, exact = trained(found[0])
    assert losses["segmentation"] == pytest.approx(exact["segmentation"], rel=0.05)
