"""The signal equations against worked values, limits and simulation."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from polysite.phantom import signal
from polysite.phantom.examination import tissue_signal
from polysite.phantom.hospital import Hospital, hospitals
from polysite.phantom.tissue import TISSUES, tissues

MPRAGE = {"te_ms": 3.0, "flip_deg": 8.0, "n_shots": 100, "shot_ms": 7.0}


def test_spin_echo_by_hand() -> None:
    # 0.8 (1 - e^-0.5) e^-1
    value = signal.spin_echo(0.8, 1000.0, 80.0, tr_ms=500.0, te_ms=80.0)
    assert_allclose(value, 0.8 * 0.3934693403 * 0.3678794412, rtol=1e-9)


def test_spin_echo_limits() -> None:
    t1, t2 = np.array([300.0, 4000.0]), np.array([50.0, 2000.0])
    assert_allclose(signal.spin_echo(0.7, t1, t2, tr_ms=1e9, te_ms=0.0), 0.7)
    assert_allclose(signal.spin_echo(0.7, t1, t2, tr_ms=1e-9, te_ms=0.0), 0, atol=1e-11)


@pytest.mark.parametrize("t1_ms", [600.0, 1300.0, 4300.0])
def test_inversion_recovery_vanishes_at_t1_ln_2(t1_ms: float) -> None:
    null = t1_ms * np.log(2)
    assert_allclose(
        signal.inversion_recovery(1.0, t1_ms, 100.0, tr_ms=50 * t1_ms, te_ms=0.0, ti_ms=null), 0, atol=1e-12
    )
    around = [
        float(signal.inversion_recovery(1.0, t1_ms, 100.0, tr_ms=50 * t1_ms, te_ms=0.0, ti_ms=null + d))
        for d in (-50.0, 50.0)
    ]
    assert min(around) > 0.005  # a magnitude: positive on both sides


def test_inversion_recovery_with_a_train_follows_the_bloch_equation() -> None:
    """Cycle of inversion, recovery for TI, saturation for the train, recovery for the rest, iterated."""
    t1, tr, ti, train, m = 1200.0, 5000.0, 1700.0, 600.0, 1.0
    for _ in range(20):
        before_echo = 1 - (1 + m) * np.exp(-ti / t1)
        m = 1 - np.exp(-(tr - ti - train) / t1)
    value = signal.inversion_recovery(1.0, t1, 100.0, tr_ms=tr, te_ms=0.0, ti_ms=ti, train_ms=train)
    assert_allclose(value, abs(before_echo), rtol=1e-12)


def test_gradient_echo_is_largest_at_the_ernst_angle() -> None:
    angles = np.linspace(1, 60, 5901)
    values = np.array(
        [signal.spoiled_gradient_echo(1.0, 900.0, 50.0, tr_ms=15.0, te_ms=3.0, flip_deg=a) for a in angles]
    )
    ernst = np.rad2deg(np.arccos(np.exp(-15.0 / 900.0)))
    assert_allclose(angles[values.argmax()], ernst, atol=0.01)
    # at 90 degrees it is a saturation recovery
    flat = signal.spoiled_gradient_echo(1.0, 900.0, 50.0, tr_ms=15.0, te_ms=0.0, flip_deg=90.0)
    assert_allclose(flat, 1 - np.exp(-15 / 900), rtol=1e-12)


def test_magnetisation_prepared_follows_the_bloch_equation() -> None:
    """Pulse by pulse, repeated until it is steady."""
    t1, tr, ti, n, shot, flip = 1100.0, 2300.0, 900.0, 100, 7.0, np.deg2rad(8.0)
    m, centre = 1.0, 0.0
    rest = tr - n * shot - (ti - n * shot / 2)
    for _ in range(20):
        m = 1 - (1 + m) * np.exp(-(ti - n * shot / 2) / t1)
        for pulse in range(n):
            if pulse == n // 2:
                centre = m
            m = 1 - (1 - m * np.cos(flip)) * np.exp(-shot / t1)
        m = 1 - (1 - m) * np.exp(-rest / t1)
    value = signal.magnetisation_prepared(0.8, t1, 40.0, tr_ms=tr, ti_ms=ti, **MPRAGE)
    assert_allclose(value, 0.8 * abs(centre) * np.sin(flip) * np.exp(-3 / 40), rtol=1e-10)


def test_a_train_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="700 ms does not fit"):
        signal.magnetisation_prepared(1.0, 900.0, 50.0, tr_ms=2000.0, ti_ms=300.0, **MPRAGE)


@pytest.mark.parametrize("hospital", hospitals(), ids=lambda h: h.name)
def test_contrasts_are_those_of_a_textbook(hospital: Hospital) -> None:
    table = tissues(hospital.field_t)
    for protocol in hospital.protocols:
        seen = {name: float(tissue_signal(table[name], protocol)) for name in TISSUES}
        white, grey, csf, fat = (seen[k] for k in ("white_matter", "grey_matter", "csf", "fat"))
        assert seen["air"] == 0
        assert seen["bone"] < 0.1 * fat
        if protocol.contrast == "T1w":
            assert fat > white > 1.15 * grey > 1.5 * csf
            assert white > seen["thalamus"] > 0.95 * grey
        elif protocol.contrast == "T2w":
            assert csf > 1.5 * grey > 1.5 * 1.3 * white
            assert fat > white
        elif protocol.contrast == "PDw":
            assert grey > 1.1 * white
            assert csf < 1.5 * white  # no T2 weighting to speak of
        else:
            assert csf < 0.2 * white < 0.2 * grey
            assert seen["lesion"] > 1.3 * grey


def test_relaxation_times_grow_with_the_field_as_published() -> None:
    low, high = tissues(1.5), tissues(3.0)
    for name in TISSUES[1:]:
        assert low[name].t1_ms <= high[name].t1_ms
        assert low[name].t2star_ms >= high[name].t2star_ms
        assert high[name].t2star_ms <= high[name].t2_ms <= high[name].t1_ms
    middle = tissues(1.5 * 2**0.5)["grey_matter"].t1_ms
    assert_allclose(middle, (1060 * 1331) ** 0.5)
    with pytest.raises(ValueError, match="field_t is 30"):
        tissues(30.0)
