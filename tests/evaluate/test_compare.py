"""Paired differences, and verdicts that too few subjects cannot buy."""

import pytest

from evaluate.scores import make_score
from polysite.evaluate.compare import Verdict, compare, paired_differences


def _two_methods(gain_db, n=12, **values):
    """Local and pflsynth over n subjects; the gain differs a little from subject to subject."""
    scores = []
    for k in range(n):
        subject = f"sub-{k:02d}"
        level = 20 + 0.5 * k
        scores.append(make_score(subject=subject, psnr_db=level, **values))
        scores.append(
            make_score(subject=subject, psnr_db=level + gain_db + 0.01 * k, method="pflsynth", **values)
        )
    return scores


def test_volumes_are_paired_by_subject_task_and_seed():
    scores = [
        make_score(psnr_db=20.0),
        make_score(psnr_db=30.0, seed=2),
        make_score(psnr_db=10.0, subject="sub-02"),
        make_score(method="pflsynth", psnr_db=21.0),
        make_score(method="pflsynth", psnr_db=33.0, seed=2),
        make_score(method="pflsynth", psnr_db=99.0, seed=3),  # no partner
    ]
    assert paired_differences(scores, "pflsynth", "local", "psnr_db") == {("north", "sub-01"): 2.0}


def test_a_steady_gain_over_enough_subjects_helps():
    (found,) = compare(_two_methods(1.0), ["pflsynth"], "local")
    assert found.verdict is Verdict.HELPS
    assert found.interval.mean == pytest.approx(1.055)
    assert (found.n_better, found.interval.n, found.n_seeds) == (12, 12, 1)
    assert found.p == found.p_holm == pytest.approx(2**-11)


def test_a_steady_loss_hurts_and_the_sign_of_the_metric_counts():
    assert compare(_two_methods(-1.0), ["pflsynth"], "local")[0].verdict is Verdict.HURTS
    scores = [
        make_score(subject=f"sub-{k}", method=method, nrmse=nrmse + 0.001 * k * k * (method == "local"))
        for k in range(8)
        for method, nrmse in (("local", 0.4), ("pflsynth", 0.3))
    ]
    (found,) = compare(scores, ["pflsynth"], "local", metric="nrmse")
    assert found.interval.mean < 0
    assert (found.verdict, found.n_better) == (Verdict.HELPS, 8)


def test_differences_of_both_signs_show_nothing():
    scores = _two_methods(0.0)
    scores = [
        row
        if row.method == "local"
        else make_score(
            method="pflsynth", subject=row.subject, psnr_db=20 + 0.5 * k + (-1) ** k * (1 + 0.1 * k)
        )
        for k, pair in enumerate(zip(scores[::2], scores[1::2], strict=True))
        for row in pair
    ]
    assert compare(scores, ["pflsynth"], "local")[0].verdict is Verdict.OPEN


def test_five_subjects_are_too_few_however_large_the_gain():
    (found,) = compare(_two_methods(9.0, n=5), ["pflsynth"], "local")
    assert (found.verdict, found.p, found.p_holm) == (Verdict.TOO_FEW, None, None)


def test_six_subjects_are_enough_for_one_comparison_but_not_for_two():
    north = _two_methods(9.0, n=6)
    south = _two_methods(9.0, n=6, site="south")
    assert compare(north, ["pflsynth"], "local")[0].verdict is Verdict.HELPS
    both = compare(north + south, ["pflsynth"], "local")
    assert [found.verdict for found in both] == [Verdict.TOO_FEW] * 2
    assert [found.p_holm for found in both] == [pytest.approx(2 * 2**-5)] * 2


def test_all_subjects_together_are_one_comparison():
    scores = _two_methods(1.0, n=4) + _two_methods(1.0, n=4, site="south")
    (found,) = compare(scores, ["pflsynth"], "local", by=())
    assert (found.site, found.task, found.interval.n) == (None, None, 8)
    assert found.verdict is Verdict.HELPS


def test_seeds_do_not_count_as_subjects():
    scores = [row for seed in range(10) for row in _two_methods(1.0, n=2, seed=seed)]
    (found,) = compare(scores, ["pflsynth"], "local")
    assert (found.interval.n, found.n_seeds, found.verdict) == (2, 10, Verdict.TOO_FEW)


def test_a_method_without_common_volumes_is_left_out():
    scores = [*_two_methods(1.0), make_score(method="central", site="south")]
    assert [found.method for found in compare(scores, ["central", "pflsynth"], "local")] == ["pflsynth"]


def test_the_main_metric_of_the_kind_decides_and_images_are_paired():
    scores = [
        make_score(kind="segmentation", subject=f"s{k}", image=image, method=method, dice=dice + 0.001 * k)
        for k in range(8)
        for image, shift in (("ED", 0.0), ("ES", -0.2))
        for method, dice in (("local", 0.7 + shift), ("fedcrld", 0.75 + shift))
    ]
    (found,) = compare(scores, ["fedcrld"], "local", by=("site",))
    assert (found.metric, found.task, found.interval.n) == ("dice", None, 8)
    assert found.interval.mean == pytest.approx(0.05)


def test_a_pair_with_a_value_that_is_not_defined_is_left_out():
    values = {"local": (4.0, None, 6.0), "fedcrld": (3.0, 2.0, None)}
    scores = [
        make_score(kind="segmentation", subject=f"s{k}", method=method, hd95_mm=value)
        for method, found in values.items()
        for k, value in enumerate(found)
    ]
    assert paired_differences(scores, "fedcrld", "local", "hd95_mm") == {("north", "s0"): -1.0}
    assert compare(scores, ["fedcrld"], "local", metric="ef_error_percent") == []
