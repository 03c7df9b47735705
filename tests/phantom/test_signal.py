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


@pytest.mark.parametrize("flip_deg", [30.0, 60.0, 90.0])
@pytest.mark.parametrize(("t1_ms", "t2_ms"), [(1030.0, 50.0), (1441.0, 250.0), (343.0, 80.0)])
def test_balanced_ssfp_for_a_short_repetition_time(t1_ms: float, t2_ms: float, flip_deg: float) -> None:
    """M0 sin(a) / (1 + cos(a) + (1 - cos(a)) T1 / T2)."""
    a = np.deg2rad(flip_deg)
    limit = 0.8 * np.sin(a) / (1 + np.cos(a) + (1 - np.cos(a)) * t1_ms / t2_ms)
    value = signal.balanced_ssfp(0.8, t1_ms, t2_ms, tr_ms=1e-3, te_ms=0.0, flip_deg=flip_deg)
    assert_allclose(value, limit, rtol=1e-4)


@pytest.mark.parametrize("off_hz", [0.0, 60.0, 130.0, 220.0, 440.0])
def test_balanced_ssfp_follows_the_bloch_equation(off_hz: float) -> None:
    """Pulses of alternating sign about x, precession and relaxation, until it is steady; read at TR / 2."""
    t1, t2, tr, flip = 1000.0, 50.0, 3.0, np.deg2rad(60.0)
    m = np.array([0.0, 0.0, 1.0])

    def free(m: np.ndarray, time: float) -> np.ndarray:
        turn = 2 * np.pi * off_hz * time / 1000
        c, s = np.cos(turn), np.sin(turn)
        x, y = np.exp(-time / t2) * np.array([c * m[0] + s * m[1], c * m[1] - s * m[0]])
        return np.array([x, y, 1 + (m[2] - 1) * np.exp(-time / t1)])

    for n in range(4000):
        a = flip if n % 2 == 0 else -flip
        m = np.array([m[0], np.cos(a) * m[1] + np.sin(a) * m[2], np.cos(a) * m[2] - np.sin(a) * m[1]])
        echo = free(m, tr / 2) * (1 if n % 2 == 0 else -1)
        m = free(m, tr)
    value = signal.balanced_ssfp(1.0, t1, t2, tr_ms=tr, te_ms=tr / 2, flip_deg=60.0, off_resonance_hz=off_hz)
    assert_allclose(np.hypot(echo[0], echo[1]), abs(value), rtol=1e-6)
    assert_allclose(echo[1], value, rtol=5e-3)  # along one line nearly, with its sign


def test_phase_sensitive_is_magnetisation_prepared_with_its_sign() -> None:
    for ti_ms, sign in ((400.0, -1), (900.0, 1)):
        keywords = {"tr_ms": 3000.0, "ti_ms": ti_ms, **MPRAGE}
        signed = signal.phase_sensitive(1.0, 900.0, 40.0, **keywords)
        assert_allclose(sign * signed, signal.magnetisation_prepared(1.0, 900.0, 40.0, **keywords))
