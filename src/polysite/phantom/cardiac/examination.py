"""One heart in one scanner: the stacks as a centre would store them, and the truth behind them."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from polysite.phantom import scanner, signal
from polysite.phantom.anatomy import Grid, rotation
from polysite.phantom.cardiac import chest as chests
from polysite.phantom.cardiac.canvas import Canvas, Signal
from polysite.phantom.cardiac.centre import PACKAGE, Centre
from polysite.phantom.cardiac.drawing import paint_heart, place, region_fractions
from polysite.phantom.cardiac.heart import FRAMES, Heart, Surfaces, draw_heart, surfaces
from polysite.phantom.noise import Field
from polysite.phantom.random import stream
from polysite.phantom.shapes import Array, Points
from polysite.phantom.tissue import Tissue, tissues

N_SUB = 4
"""Sub-slices over a slice's thickness."""
REACH_MM = (-78.0, 70.0, 70.0)
"""Left, right, and up or down: how far from its axis a heart is drawn."""
PEDESTAL = 0.02
"""Added to phase-sensitive signals before they are stored: what is less than minus this is cut to 0."""
RELAXIVITY = 4.5
"""R1 of gadolinium in blood and tissue, per second and mmol/l (1.5 T)."""
HAEMATOCRIT = 0.42
EXTRACELLULAR = {"myocardium": 0.26, "infarct": 0.72, "no_reflow": 0.06, "muscle": 0.2, "liver": 0.28}
"""Volume fraction that the agent reaches about 10 minutes after injection; other tissues 0.2."""


@dataclass(frozen=True)
class Scan:
    """One stack: `frame` is ``"ED"`` or ``"ES"``; arrays (x, y, z): stored image, the same without noise and shading,
    and labels."""

    frame: str
    image: Array
    clean: Array
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class Examination:
    """All stacks of a heart on one oblique grid.

    Attributes
    ----------
    grid : Grid
        In the image's own frame: mm to the right, down and along the stack.
    affine : (4, 4) float64
        Voxel index to RAS mm.
    shifts_mm : float array (slice, 2)
        Where each breath-hold left the heart, to the right and down.
    ti_ms : float or None
        The inversion time that nulls this heart's myocardium.
    """

    heart: Heart
    grid: Grid
    affine: NDArray[np.float64]
    scans: tuple[Scan, ...]
    shifts_mm: NDArray[np.float64]
    ti_ms: float | None


def examine(centre: Centre, *, seed: int, number: int, in_plane_mm: float | None = None) -> Examination:
    """Examine subject `number` of a centre; every random choice has a stream of its own."""
    name = centre.name
    group = centre.groups[(number - 1) % len(centre.groups)]
    heart = draw_heart(stream(seed, name, number, "heart"), group)
    rng = stream(seed, name, number, "position")
    grid = stack_grid(centre, heart, rng, in_plane_mm)
    affine = orientation(rng) @ grid.affine
    n_slices = grid.shape[2]
    shifts = np.clip(rng.normal(0, 1.4, (n_slices, 2)), -4, 4)
    protons = tissues(centre.field_t, PACKAGE)
    ti_ms = None
    if centre.enhanced:
        protons = enhanced(protons, blood_mmol=float(rng.uniform(0.45, 0.65)))
        ti_ms = null_time(protons["myocardium"], centre)
    canvas = _background(centre, heart, grid, shifts, protons, ti_ms, stream(seed, name, number, "chest"))
    frames = FRAMES[:1] if centre.enhanced else FRAMES
    rng = stream(seed, name, number, "scanner")
    gain = np.float32(scanner.draw_gain(rng, centre.gain))
    shade = scanner.draw_bias(rng, grid, strength=centre.bias)
    shade = (
        shade * np.exp(-np.float32(centre.coil / 100) * (grid.axes()[0] - grid.centre_mm[0]))[:, None, None]
    )
    sigma = float(_sequence(centre, ti_ms)(protons["blood"], np.zeros(1, np.float32))[0]) / centre.snr
    scans = []
    for frame in frames:
        clean, labels = _draw(canvas, centre, heart, surfaces(heart, frame), grid, shifts)
        noise = stream(seed, name, number, "noise", frame)
        if centre.enhanced:
            image = scanner.add_real_noise(clean * shade, noise, sigma=sigma) + np.float32(PEDESTAL)
            image = np.maximum(image, 0)
        else:
            image = scanner.add_rician_noise(clean * shade, noise, sigma=sigma)
        if centre.first_slice == "apex":
            image, clean, labels = image[:, :, ::-1], clean[:, :, ::-1], labels[:, :, ::-1]
        scans.append(Scan(frame, gain * image, gain * clean, labels))
    if centre.first_slice == "apex":
        flip = np.diag([1.0, 1.0, -1.0, 1.0])
        flip[2, 3] = n_slices - 1
        affine, shifts = affine @ flip, shifts[::-1]
    return Examination(heart, grid, affine, tuple(scans), shifts, ti_ms)


# --- geometry -----------------------------------------------------------------------------------------


def stack_grid(centre: Centre, heart: Heart, rng: np.random.Generator, in_plane_mm: float | None) -> Grid:
    """A stack from above the base to below the apex; a larger voxel keeps the field of view."""
    step = in_plane_mm or centre.in_plane_mm
    n_x, n_y = (max(1, round(n * centre.in_plane_mm / step)) for n in centre.matrix)
    spacing = centre.spacing_mm
    first = float(rng.uniform(-1.5, -0.5)) * spacing
    n_slices = int(np.ceil((heart.length_mm + heart.wall_mm - first) / spacing)) + 1
    centre_mm = (float(rng.normal(22, 6)), float(rng.normal(-22, 8)), first + 0.5 * (n_slices - 1) * spacing)
    return Grid((n_x, n_y, n_slices), (step, step, spacing), centre_mm)


def orientation(rng: np.random.Generator) -> NDArray[np.float64]:
    """From the image's frame (mm to the right, down, towards the apex) to RAS mm, (4, 4).

    The heart's axis points to the left, forwards and down; down in the image is down in the patient as far as the
    slices allow, so right in the image is left and back in the patient, as readers are used to.
    """
    apex = np.array([-0.62, 0.60, -0.50]) + rng.normal(0, 0.07, 3)
    apex /= np.linalg.norm(apex)
    down = np.array([0.0, 0.0, -1.0])
    down = down - (down @ apex) * apex
    down /= np.linalg.norm(down)
    axes = np.stack([np.cross(apex, down), down, apex], axis=1)
    matrix = np.eye(4)
    matrix[:3, :3] = axes @ rotation((0, 0, float(rng.normal(0, 4))))
    matrix[:3, 3] = rng.normal([-28, 12, -8], 6)
    return matrix


def _points(grid: Grid, z: Array, shifts: NDArray[np.float64] | None) -> Points:
    """Coordinates as a reader sees them (right, up, towards the apex); `shifts` one a sub-slice."""
    right, down, _ = grid.axes()
    x = np.broadcast_to(right[:, None, None], (len(right), len(down), len(z)))
    y = np.broadcast_to(-down[None, :, None], x.shape)
    if shifts is not None:
        x, y = x - shifts[:, 0].astype(np.float32), y + shifts[:, 1].astype(np.float32)
    return np.asarray(x), np.asarray(y), np.broadcast_to(z.astype(np.float32), x.shape)


# --- sequence -----------------------------------------------------------------------------------------


def enhanced(table: dict[str, Tissue], *, blood_mmol: float) -> dict[str, Tissue]:
    """Tissues with gadolinium: 1 / T1 grows by the relaxivity times the concentration in the whole tissue.

    Parameters
    ----------
    blood_mmol : float
        Concentration in whole blood, mmol/l; in plasma it is 1 / (1 - haematocrit) of that.
    """
    plasma = blood_mmol / (1 - HAEMATOCRIT)
    poor = {"air": 0.0, "fat": 0.03, "fluid": 0.0, "bone": 0.0}

    def with_agent(tissue: Tissue) -> Tissue:
        share = poor.get(tissue.name, EXTRACELLULAR.get(tissue.name, 0.2))
        added = RELAXIVITY * (blood_mmol if tissue.name == "blood" else share * plasma)
        return replace(tissue, t1_ms=1000 / (1000 / tissue.t1_ms + added))

    return {name: with_agent(tissue) for name, tissue in table.items()}


def null_time(tissue: Tissue, centre: Centre) -> float:
    """The inversion time in ms at which a tissue vanishes in a centre's sequence, by bisection."""
    low, high = 0.5 * (centre.n_shots or 0) * (centre.shot_ms or 0) + 1, 900.0
    for _ in range(40):
        middle = 0.5 * (low + high)
        negative = _sequence(centre, middle)(tissue, np.zeros(1, np.float32))[0] < 0
        low, high = (middle, high) if negative else (low, middle)
    return round(0.5 * (low + high), 3)


def _sequence(centre: Centre, ti_ms: float | None) -> Signal:
    def seen(tissue: Tissue, off_hz: Array) -> Array:
        if not centre.enhanced:
            # fat precesses 3.5 ppm more slowly than water
            shift = -3.5 * 42.577 * centre.field_t if tissue.name in ("fat", "marrow") else 0.0
            value = signal.balanced_ssfp(
                tissue.pd, tissue.t1_ms, tissue.t2_ms, tr_ms=centre.tr_ms, te_ms=centre.te_ms,
                flip_deg=centre.flip_deg, off_resonance_hz=off_hz + shift,
            )  # fmt: skip
            value = value * (centre.inflow if tissue.name == "blood" else 1.0)
        else:
            value = signal.phase_sensitive(
                tissue.pd, tissue.t1_ms, tissue.t2star_ms, tr_ms=centre.tr_ms, te_ms=centre.te_ms,
                ti_ms=ti_ms or 0, flip_deg=centre.flip_deg, n_shots=centre.n_shots or 1,
                shot_ms=centre.shot_ms or 0,
            )  # fmt: skip
        return np.broadcast_to(np.asarray(value, np.float32), off_hz.shape)

    return seen


# --- drawing ------------------------------------------------------------------------------------------


def _background(
    centre: Centre, heart: Heart, grid: Grid, shifts: NDArray[np.float64], table: dict[str, Tissue],
    ti_ms: float | None, rng: np.random.Generator,
) -> Canvas:  # fmt: skip
    """Everything but the heart: the same in all frames, since they are of one breath-hold."""
    chest = chests.draw_chest(rng)
    texture, field = Field(rng, 22.0), Field(rng, 120.0)
    z = grid.axes()[2]
    points = _points(grid, z, None)
    x, y, _ = points
    # shimmed on the heart, worse further away
    off_hz = 12 * centre.field_t * field.cloud(points) * (0.6 + (x * x + y * y) * np.float32(1 / 9000))
    canvas = Canvas(table, _sequence(centre, ti_ms), np.asarray(off_hz, np.float32), texture.cloud(points))
    radius = float(surfaces(heart, "ED").epi.max())
    edge = grid.step_mm[0] + 0.8
    for tissue, cover, box in chests.layers(chest, points, _points(grid, z, shifts), edge, radius):
        canvas.paint(tissue, cover, box)
    return canvas


def _draw(
    background: Canvas, centre: Centre, heart: Heart, shape: Surfaces, grid: Grid, shifts: NDArray[np.float64]
) -> tuple[Array, NDArray[np.uint8]]:
    """Image without noise and shading, and labels: the region that fills most of each voxel."""
    right, down, z = grid.axes()
    left, end, side = REACH_MM
    widest = float(shape.rv.max()) + 14
    inside_x = np.flatnonzero((right > max(left * 1.3, -widest)) & (right < end))
    inside_y = np.flatnonzero(np.abs(down) < max(side, widest - 10))
    box = (slice(inside_x[0], inside_x[-1] + 1), slice(inside_y[0], inside_y[-1] + 1), slice(None))
    thin = centre.thickness_mm / N_SUB
    offsets = (np.arange(N_SUB) - 0.5 * (N_SUB - 1)) * thin
    fine = (z[:, None] + offsets).ravel().astype(np.float32)
    whole = _points(grid, fine, np.repeat(shifts, N_SUB, axis=0))
    points = (whole[0][box], whole[1][box], whole[2][box])
    at = place(heart, shape, points, grid.step_mm[0], thin)
    canvas = background.part(box, N_SUB)
    fractions = region_fractions(shape, at)
    paint_heart(canvas, heart, shape, at, fractions)

    def mean(values: Array) -> Array:
        return np.asarray(values.reshape(*values.shape[:2], len(z), N_SUB).mean(axis=3))

    values = background.values.copy()
    values[box] = mean(canvas.values)
    regions = {name: mean(cover) for name, cover in fractions.items()}
    if not centre.enhanced:
        regions["myocardium"] = regions["myocardium"] + regions["infarct"] + regions["no_reflow"]
        values = np.abs(values)
    shares = np.stack([regions[name] for name in centre.labels[1:]])
    labels = np.zeros(grid.shape, np.uint8)
    nothing = 1 - shares.sum(axis=0)
    labels[box] = np.where(shares.max(axis=0) > nothing, shares.argmax(axis=0) + 1, 0)
    return values, labels
