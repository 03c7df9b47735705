"""Hearts: exact volumes, what contraction keeps, and infarcts inside the wall."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from polysite.phantom.cardiac.heart import LEVELS, Heart, draw_heart, surfaces, truth, volume_ml

GROUPS = ("healthy", "dilated", "hypertrophic", "infarcted")
HEARTS = [draw_heart(np.random.default_rng(seed), group) for group in GROUPS for seed in range(8)]


def test_the_volume_of_a_cone() -> None:
    """Radius 20 mm at the base, 0 at the apex, 90 mm long: pi r^2 h / 3."""
    cone = np.clip(20 * (1 - LEVELS), 0, None)[:, None] * np.ones(128)
    assert_allclose(volume_ml(0.0, cone, 90.0), np.pi * 4 * 9 / 3, rtol=1e-3)


@pytest.mark.parametrize("heart", HEARTS, ids=lambda h: h.group)
def test_a_heart_has_the_volumes_that_it_was_drawn_with(heart: Heart) -> None:
    exact = truth(heart)
    assert_allclose(exact["lv_edv_ml"], heart.lv_edv_ml, rtol=1e-9)
    assert_allclose(exact["lv_esv_ml"], heart.lv_edv_ml * (1 - heart.lv_ef), rtol=1e-6)
    assert_allclose(exact["rv_edv_ml"], heart.rv_edv_ml, rtol=1e-6)
    assert_allclose(exact["rv_esv_ml"], heart.rv_edv_ml * (1 - heart.rv_ef), rtol=1e-6)


@pytest.mark.parametrize("heart", HEARTS, ids=lambda h: h.group)
def test_the_wall_keeps_its_volume_and_the_base_comes_down(heart: Heart) -> None:
    ed, es = surfaces(heart, "ED"), surfaces(heart, "ES")
    walls = [volume_ml(s.endo, s.epi, s.length_mm) for s in (ed, es)]
    assert_allclose(*walls, rtol=1e-6)
    assert es.base_mm > 0
    assert es.length_mm < ed.length_mm
    middle = np.abs(LEVELS - 0.5) < 0.2
    for shape in (ed, es):
        assert (shape.epi >= shape.endo).all()
        assert (shape.rv >= shape.epi - 1e-9).all()
        assert (shape.epi - shape.endo)[middle].min() > 4


def test_groups_differ_as_diseases_do() -> None:
    def mean(group: str, name: str) -> float:
        return float(np.mean([truth(h)[name] for h in HEARTS if h.group == group]))

    assert mean("dilated", "lv_edv_ml") > 1.4 * mean("healthy", "lv_edv_ml")
    assert mean("dilated", "lv_ef_percent") < 40 < 55 < mean("healthy", "lv_ef_percent")
    assert mean("hypertrophic", "myocardium_ml") > 1.2 * mean("healthy", "myocardium_ml")
    assert mean("infarcted", "infarct_ml") > 5
    assert mean("healthy", "infarct_ml") == mean("healthy", "no_reflow_ml") == 0


@pytest.mark.parametrize("heart", [h for h in HEARTS if h.infarct], ids=lambda h: h.group)
def test_no_reflow_lies_in_the_infarct_and_the_infarct_in_the_wall(heart: Heart) -> None:
    for frame in ("ED", "ES"):
        s = surfaces(heart, frame)
        assert (s.infarct <= s.epi + 1e-9).all()
        core = s.core_outer > s.core_inner
        assert (s.core_inner >= s.endo - 1e-9).all()
        assert (s.core_outer <= s.infarct + 1e-9)[core].all()
        assert core.any() == (heart.infarct is not None and heart.infarct.core > 0)


def test_another_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="frame is 'XX'; choose one of: ED, ES"):
        surfaces(HEARTS[0], "XX")
