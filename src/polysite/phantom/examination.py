"""One person in one scanner: images as the hospital would store them, and the truth behind them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polysite.phantom import scanner, signal
from polysite.phantom.anatomy import Grid, Head, draw_head, draw_person
from polysite.phantom.hospital import Hospital, Protocol
from polysite.phantom.random import stream
from polysite.phantom.shapes import Array
from polysite.phantom.tissue import Tissue, tissues

FIELD_OF_VIEW_MM = (192.0, 224.0, 160.0)
CENTRE_MM = (0.0, -13.0, 17.0)
MARGIN_MM = 4.0


@dataclass(frozen=True)
class Scan:
    """One contrast of an examination.

    Attributes
    ----------
    protocol : Protocol
    image : float32 array (x, y, z)
        What the scanner stores.
    clean : float32 array (x, y, z)
        The same without noise, shading and motion, in the pose of the truth.
    motion : (4, 4) float64
        RAS mm: the stored image shows at point p what the truth has at point ``motion @ p``.
    """

    protocol: Protocol
    image: Array
    clean: Array
    motion: NDArray[np.float64]


@dataclass(frozen=True)
class Examination:
    """All scans of a person on one grid, with labels and quantitative maps in the pose of the first scan."""

    grid: Grid
    scans: tuple[Scan, ...]
    labels: NDArray[np.uint8]
    pd: Array
    t1_ms: Array
    t2_ms: Array


def image_grid(hospital: Hospital, voxel_mm: float | None = None) -> Grid:
    """The grid of a hospital's images; a larger in-plane voxel also spaces the slices at least as far."""
    in_plane = voxel_mm or hospital.in_plane_mm
    spacing = max(hospital.spacing_mm, voxel_mm or 0.0)
    step = (in_plane, in_plane, spacing)
    shape = tuple(max(1, round(width / s)) for width, s in zip(FIELD_OF_VIEW_MM, step, strict=True))
    return Grid((shape[0], shape[1], shape[2]), step, CENTRE_MM)


def _anatomy_grid(grid: Grid) -> Grid:
    """A finer grid around the images' to draw the head on: folds need 2.5 mm or better."""
    in_plane = grid.step_mm[0]
    step = min(in_plane, 0.6 + 0.6 * in_plane, 2.5)
    widths = [n * s + 2 * MARGIN_MM for n, s in zip(grid.shape, grid.step_mm, strict=True)]
    shape = [int(np.ceil(width / step)) for width in widths]
    return Grid((shape[0], shape[1], shape[2]), (step, step, step), grid.centre_mm)


def examine(
    hospital: Hospital, contrasts: tuple[str, ...], *, seed: int, number: int, voxel_mm: float | None = None
) -> Examination:
    """Examine person `number` of a hospital.

    Every random choice has a stream of its own, named by what it is for: neither the other persons nor the
    other contrasts change an image.
    """
    name = hospital.name
    person = draw_person(stream(seed, name, number, "person"), lesions=hospital.lesions)
    grid = image_grid(hospital, voxel_mm)
    fine = _anatomy_grid(grid)
    head = draw_head(person, fine)
    table = tissues(hospital.field_t)
    # the receiver is set once an examination
    gain = scanner.draw_gain(stream(seed, name, number, "gain"), hospital.gain)
    scans = []
    for contrast in contrasts:
        protocol = hospital.protocol(contrast)
        rng = stream(seed, name, number, contrast)
        still = contrast == hospital.contrasts[0]
        motion = np.eye(4) if still else scanner.draw_motion(rng)
        width = (*grid.step_mm[:2], max(protocol.thickness_mm, grid.step_mm[2]))
        ideal = ideal_signal(head, table, protocol)
        clean = scanner.acquire(ideal, fine, grid, width)
        moved = clean if still else scanner.acquire(scanner.move(ideal, fine, motion), fine, grid, width)
        shaded = moved * scanner.draw_bias(rng, grid, strength=hospital.bias)
        sigma = float(tissue_signal(table["white_matter"], protocol)) / hospital.snr
        image = scanner.add_rician_noise(shaded, rng, sigma=sigma)
        scans.append(Scan(protocol, np.float32(gain) * image, np.float32(gain) * clean, motion))
    return Examination(grid, tuple(scans), *_truth(head, grid, table))


def tissue_signal(
    tissue: Tissue, protocol: Protocol, pd: signal.Values | None = None, stretch: signal.Values = 1.0
) -> NDArray[np.floating]:
    """A tissue's signal in a protocol; `stretch` multiplies its relaxation times."""
    pd = tissue.pd if pd is None else pd
    t1, t2, t2star = tissue.t1_ms * stretch, tissue.t2_ms * stretch, tissue.t2star_ms * stretch
    p = protocol
    match p.sequence:
        case "spin_echo":
            value = signal.spin_echo(pd, t1, t2, tr_ms=p.tr_ms, te_ms=p.te_effective_ms)
        case "inversion_recovery":
            value = signal.inversion_recovery(
                pd,
                t1,
                t2,
                tr_ms=p.tr_ms,
                te_ms=p.te_effective_ms,
                ti_ms=p.ti_ms or 0,
                train_ms=p.train_ms or 0,
            )
        case "spoiled_gradient_echo":
            value = signal.spoiled_gradient_echo(
                pd, t1, t2star, tr_ms=p.tr_ms, te_ms=p.te_ms, flip_deg=p.flip_deg
            )
        case "magnetisation_prepared":
            value = signal.magnetisation_prepared(
                pd, t1, t2star, tr_ms=p.tr_ms, te_ms=p.te_ms, ti_ms=p.ti_ms or 0, flip_deg=p.flip_deg,
                n_shots=p.n_shots or 1, shot_ms=p.shot_ms or 0,
            )  # fmt: skip
        case _:
            raise ValueError(f"{p.sequence!r} is not a function of polysite.phantom.signal")
    return np.asarray(value)


def ideal_signal(head: Head, table: dict[str, Tissue], protocol: Protocol) -> Array:
    """The signal of every voxel, the sum over tissues weighted by their fractions, on the head's grid."""
    total = np.zeros(head.grid.shape, np.float32)
    flat, texture = total.reshape(-1), head.texture.reshape(-1)
    for name, where in head.places.items():
        stretch = np.exp(np.float32(table[name].variation) * texture[where])
        share = head.fractions[name].reshape(-1)[where]
        flat[where] += share * tissue_signal(table[name], protocol, stretch=stretch)
    return total


def _truth(head: Head, grid: Grid, table: dict[str, Tissue]) -> tuple[NDArray[np.uint8], Array, Array, Array]:
    """Labels, PD, T1 and T2 on the images' grid; relaxation times are means weighted by proton density."""

    def seen(values: Array) -> Array:
        return scanner.acquire(values, head.grid, grid, grid.step_mm)

    best = np.zeros(grid.shape, np.float32)
    labels = np.zeros(grid.shape, np.uint8)
    pd, t1, t2 = (np.zeros(head.grid.shape, np.float32) for _ in range(3))
    texture = head.texture.reshape(-1)
    for name, where in head.places.items():
        tissue = table[name]
        share = seen(head.fractions[name])
        labels[share > best] = tissue.index
        best = np.maximum(best, share)
        protons = np.float32(tissue.pd) * head.fractions[name].reshape(-1)[where]
        stretched = protons * np.exp(np.float32(tissue.variation) * texture[where])
        pd.reshape(-1)[where] += protons
        t1.reshape(-1)[where] += np.float32(tissue.t1_ms) * stretched
        t2.reshape(-1)[where] += np.float32(tissue.t2_ms) * stretched
    labels[seen(head.fractions["air"]) > best] = 0
    pd, t1, t2 = seen(pd), seen(t1), seen(t2)
    mean = np.maximum(pd, np.float32(1e-3))
    return labels, pd, np.asarray(t1 / mean), np.asarray(t2 / mean)
