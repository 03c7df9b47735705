"""Signal equations: what a pulse sequence makes of proton density and relaxation times.

Every function takes PD (any unit; the signal has the same), T1, T2 or T2* in ms (arrays of one shape, or
numbers), the protocol as keywords in ms and degrees, and returns the signal: its magnitude, where nothing else
is said. Symbols and
formulas follow Bernstein, King and Zhou, Handbook of MRI Pulse Sequences, Academic Press, 2004.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.floating[Any]] | float


def spin_echo(pd: Values, t1_ms: Values, t2_ms: Values, *, tr_ms: float, te_ms: float) -> Any:
    """Spin echo with a 90° pulse, also the effective echo of a turbo spin echo, for TE much below TR.

    S = PD (1 - exp(-TR / T1)) exp(-TE / T2)

    >>> round(float(spin_echo(1.0, 1000.0, 100.0, tr_ms=1000.0, te_ms=100.0)), 4)
    0.2325
    """
    return pd * -np.expm1(-tr_ms / t1_ms) * np.exp(-te_ms / t2_ms)


def inversion_recovery(
    pd: Values,
    t1_ms: Values,
    t2_ms: Values,
    *,
    tr_ms: float,
    te_ms: float,
    ti_ms: float,
    train_ms: float = 0.0,
) -> Any:
    """Inversion, a wait of TI, then a (turbo) spin echo: FLAIR and STIR, as magnitude.

    S = PD |1 - 2 exp(-TI / T1) + exp(-(TR - train) / T1)| exp(-TE / T2)

    `train_ms` is the length of the echo train, in which nothing recovers. A tissue vanishes at
    TI = T1 ln(2 / (1 + exp(-(TR - train) / T1))), which is T1 ln 2 for a long TR.

    >>> round(float(inversion_recovery(1.0, 1000.0, 100.0, tr_ms=1e9, te_ms=0.0, ti_ms=693.147)), 5)
    0.0
    """
    recovered = 1 - 2 * np.exp(-ti_ms / t1_ms) + np.exp(-(tr_ms - train_ms) / t1_ms)
    return pd * np.abs(recovered) * np.exp(-te_ms / t2_ms)


def spoiled_gradient_echo(
    pd: Values, t1_ms: Values, t2star_ms: Values, *, tr_ms: float, te_ms: float, flip_deg: float
) -> Any:
    """Gradient echo with spoiled transverse magnetisation (FLASH, SPGR, T1-FFE) in its steady state.

    S = PD sin(a) (1 - E1) / (1 - cos(a) E1) exp(-TE / T2*),  E1 = exp(-TR / T1)

    It is largest at the Ernst angle, cos(a) = E1.

    >>> round(float(spoiled_gradient_echo(1.0, 1000.0, 50.0, tr_ms=10.0, te_ms=0.0, flip_deg=8.1)), 4)
    0.0707
    """
    angle = np.deg2rad(flip_deg)
    e1 = np.exp(-tr_ms / t1_ms)
    steady = np.sin(angle) * (1 - e1) / (1 - np.cos(angle) * e1)
    return pd * steady * np.exp(-te_ms / t2star_ms)


def balanced_ssfp(
    pd: Values,
    t1_ms: Values,
    t2_ms: Values,
    *,
    tr_ms: float,
    te_ms: float,
    flip_deg: float,
    off_resonance_hz: Values = 0.0,
) -> Any:
    """Balanced steady-state free precession (TrueFISP, FIESTA, bFFE) with alternating pulses, and its sign.

    S = PD sin(a) (1 - E1) |1 - E2 exp(-i b)| / (C cos b + D) exp(-TE / T2), E1 = exp(-TR / T1), E2 = exp(-TR / T2),
    C = E2 (E1 - 1) (1 + cos a), D = 1 - E1 cos a - (E1 - cos a) E2^2 and b = 2 pi f TR + pi, the precession
    from pulse to pulse (Freeman and Hill, J Magn Reson 4:366, 1971). On resonance this is
    PD sin(a) (1 - E1) / (1 - (E1 - E2) cos a - E1 E2) exp(-TE / T2), for TR much below T1 and T2
    PD sin(a) / (1 + cos a + (1 - cos a) T1 / T2).

    For TE = TR / 2 the magnetisation is refocused along one line (within 1 %), forwards or backwards: its sign changes
    at every dark band, 1 / TR apart. Fat and water in one voxel may cancel: take the magnitude after summing.

    >>> round(float(balanced_ssfp(1.0, 1000.0, 50.0, tr_ms=1e-3, te_ms=0.0, flip_deg=60.0)), 4)
    0.0753
    """
    angle = np.deg2rad(flip_deg)
    e1, e2 = np.exp(-tr_ms / t1_ms), np.exp(-tr_ms / t2_ms)
    turns = np.asarray(off_resonance_hz) * (tr_ms / 1000)
    precession = 2 * np.pi * turns + np.pi
    c = e2 * (e1 - 1) * (1 + np.cos(angle))
    d = 1 - e1 * np.cos(angle) - (e1 - np.cos(angle)) * e2**2
    length = np.sqrt(1 - 2 * e2 * np.cos(precession) + e2**2)
    steady = np.sin(angle) * (1 - e1) * length / (c * np.cos(precession) + d)
    sign = np.where(np.rint(turns) % 2 == 0, 1.0, -1.0)
    return pd * sign * steady * np.exp(-te_ms / t2_ms)


def magnetisation_prepared(
    pd: Values, t1_ms: Values, t2star_ms: Values, *,
    tr_ms: float, te_ms: float, ti_ms: float, flip_deg: float, n_shots: int, shot_ms: float,
) -> Any:  # fmt: skip
    """Inversion, then a train of small-angle gradient echoes (MPRAGE, IR-SPGR, 3-D TFE) in its steady state.

    S = |Mz| sin(a) exp(-TE / T2*), with Mz before the pulse at the centre of k-space, in the middle of the
    train. Between inversions, `tr_ms` apart, Mz passes through three linear maps m -> k m + (1 - k) m0: free
    recovery (m0 = PD, k = exp(-t / T1)), half a train (k = (cos(a) E1)^(n/2), m0 = PD (1 - E1) / (1 - cos(a) E1))
    and again free recovery; the steady state repeats itself (Marques et al., NeuroImage 49:1271, 2010, eq. 1).

    Parameters
    ----------
    tr_ms, ti_ms : float
        From inversion to inversion, and from inversion to the centre of k-space.
    n_shots : int
        Pulses in one train.
    shot_ms : float
        From pulse to pulse, the inner repetition time.

    Examples
    --------
    With pulses that do nothing it is a plain inversion recovery:

    >>> s = magnetisation_prepared(1.0, 900.0, 50.0, tr_ms=3000.0, te_ms=0.0, ti_ms=900.0,
    ...                            flip_deg=1e-4, n_shots=100, shot_ms=7.0)
    >>> bool(np.isclose(s / np.sin(np.deg2rad(1e-4)), 1 - 2 * np.exp(-1) / (1 + np.exp(-3000 / 900))))
    True
    """
    prepared = phase_sensitive(
        pd, t1_ms, t2star_ms, tr_ms=tr_ms, te_ms=te_ms, ti_ms=ti_ms, flip_deg=flip_deg, n_shots=n_shots,
        shot_ms=shot_ms,
    )  # fmt: skip
    return np.abs(prepared)


def phase_sensitive(
    pd: Values, t1_ms: Values, t2star_ms: Values, *,
    tr_ms: float, te_ms: float, ti_ms: float, flip_deg: float, n_shots: int, shot_ms: float,
) -> Any:  # fmt: skip
    """As :func:`magnetisation_prepared`, with its sign: negative before the null point (PSIR).

    The reference image that gives the sign is taken as ideal (Kellman et al., Magn Reson Med 47:372, 2002).
    """
    half_ms = 0.5 * n_shots * shot_ms
    if half_ms > ti_ms or ti_ms + half_ms > tr_ms:
        raise ValueError(
            f"a train of {2 * half_ms:g} ms does not fit around TI {ti_ms:g} ms in TR {tr_ms:g} ms"
        )
    angle = np.deg2rad(flip_deg)
    e1 = np.exp(-shot_ms / t1_ms)
    pulsed = pd * (1 - e1) / (1 - np.cos(angle) * e1)
    in_train = (np.cos(angle) * e1) ** (0.5 * n_shots)
    before, after = np.exp(-(ti_ms - half_ms) / t1_ms), np.exp(-(tr_ms - ti_ms - half_ms) / t1_ms)

    def wait(m: Values, kept: Values) -> Any:
        return kept * m + (1 - kept) * pd

    def pulses(m: Values) -> Any:
        return in_train * m + (1 - in_train) * pulsed

    # one whole cycle is m -> slope m + offset, from just before an inversion to just before the next
    offset = wait(pulses(pulses(wait(0.0 * pd, before))), after)
    slope = -before * in_train**2 * after
    centre = pulses(wait(-offset / (1 - slope), before))
    return centre * np.sin(angle) * np.exp(-te_ms / t2star_ms)
