"""Means over subjects: seeds and tasks first, then subjects, never volumes."""

import pytest

from evaluate.scores import make_score
from polysite.evaluate.summary import aggregate, overview, subject_means, summary_rows


def test_seeds_are_averaged_within_a_subject_before_subjects():
    scores = [make_score(seed=seed, psnr_db=10.0) for seed in (1, 2, 3)] + [
        make_score(subject="sub-02", psnr_db=20.0)
    ]
    (row,) = aggregate(scores)
    assert row.metrics["psnr_db"].mean == 15.0  # not 12.5, the mean over volumes
    assert (row.n_subjects, row.n_seeds) == (2, 3)


def test_the_same_name_at_two_sites_is_two_subjects():
    scores = [make_score(psnr_db=10.0), make_score(site="south", psnr_db=20.0)]
    assert subject_means(scores, "psnr_db") == {("north", "sub-01"): 10.0, ("south", "sub-01"): 20.0}


def test_rows_are_per_site_task_and_method_in_order_of_appearance():
    scores = [
        make_score(method=method, site=site, task=task)
        for method in ("pflsynth", "local")
        for site, task in (("south", "T2w->T1w"), ("north", "T1w->T2w"), ("south", "T1w->T2w"))
    ]
    assert [(row.site, row.task, row.method) for row in aggregate(scores)] == [
        ("south", "T2w->T1w", "pflsynth"),
        ("south", "T2w->T1w", "local"),
        ("south", "T1w->T2w", "pflsynth"),
        ("south", "T1w->T2w", "local"),
        ("north", "T1w->T2w", "pflsynth"),
        ("north", "T1w->T2w", "local"),
    ]
    assert [(row.site, row.task, row.method) for row in summary_rows(scores)] == [
        ("south", None, "pflsynth"),
        ("south", None, "local"),
        ("north", None, "pflsynth"),
        ("north", None, "local"),
    ]


def test_best_is_the_largest_psnr_and_ssim_and_the_smallest_nrmse():
    scores = [
        make_score(method="a", psnr_db=21.0, ssim=0.7, nrmse=0.2),
        make_score(method="b", psnr_db=20.0, ssim=0.9, nrmse=0.2),
    ]
    first, second = aggregate(scores)
    assert first.best == {"psnr_db", "nrmse"}
    assert second.best == {"ssim", "nrmse"}


def test_a_reference_is_shown_but_never_best():
    scores = [make_score(method=name, psnr_db=psnr) for name, psnr in (("a", 20), ("b", 21), ("central", 30))]
    marks = {row.method: "psnr_db" in row.best for row in aggregate(scores, references={"central"})}
    assert marks == {"a": False, "b": True, "central": False}
    assert all(not row.best for row in aggregate(scores[1:], references={"central"}))


def test_one_method_alone_is_best_in_nothing():
    assert aggregate([make_score()])[0].best == frozenset()


def test_the_interval_is_over_subjects():
    scores = [make_score(subject=f"sub-{k}", psnr_db=20.0 + k) for k in range(8)]
    interval = summary_rows(scores)[0].metrics["psnr_db"]
    assert interval.n == 8
    assert interval.mean == pytest.approx(23.5)
    assert 20.0 < interval.low < 23.5 < interval.high < 27.0


def test_no_scores_give_no_rows():
    assert aggregate([]) == summary_rows([]) == []


def _segment(**values):
    return make_score(kind="segmentation", **values)


def test_images_are_averaged_within_a_subject():
    scores = [_segment(image="ED", dice=0.8), _segment(image="ES", dice=0.6), _segment(subject="b", dice=0.9)]
    assert aggregate(scores)[0].metrics["dice"].mean == pytest.approx(0.8)  # not 2.3 / 3


def test_what_is_not_defined_is_left_out_and_counted():
    scores = [_segment(hd95_mm=4.0), _segment(image="ES", hd95_mm=None), _segment(subject="b", hd95_mm=None)]
    (row,) = aggregate(scores)
    assert (row.n_subjects, row.metrics["hd95_mm"].n, row.metrics["hd95_mm"].mean) == (2, 1, 4.0)
    assert row.metrics["dice"].n == 2
    assert "ef_error_percent" not in row.metrics


def test_best_is_among_those_for_whom_the_metric_is_defined():
    scores = [
        _segment(method="a", hd95_mm=4.0, dice=0.9),
        _segment(method="b", hd95_mm=None, dice=0.8),
        _segment(method="c", hd95_mm=5.0, dice=0.7),
    ]
    assert aggregate(scores)[0].best == {"dice", "hd95_mm", "assd_mm", "volume_error_ml"}
    assert "hd95_mm" not in aggregate(scores[:2])[0].best  # there is nothing to be better than


def test_the_overview_has_the_mean_over_classes_before_each_class():
    scores = [
        _segment(site=site, task=task, dice=d) for site in "ab" for task, d in (("LV", 0.9), ("RV", 0.7))
    ]
    rows = overview(scores)
    assert [(row.site, row.task) for row in rows] == [(s, t) for s in "ab" for t in (None, "LV", "RV")]
    assert rows[0].metrics["dice"].mean == pytest.approx(0.8)
    assert overview([make_score()]) == aggregate([make_score()])
