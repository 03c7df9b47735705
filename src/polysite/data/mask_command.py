"""A mask by somebody else's program: a volume goes in as a file, a mask comes out as one.

The program is the user's own choice and runs with the user's rights. It is started without a shell, in a temporary
folder that goes away afterwards, and its result is not believed before grid and values are looked at.
"""

import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polysite.data.resample import Grid
from polysite.errors import DataError
from polysite.image import Image, read_image, write_image

VERSION = 1
"""Raised whenever the same program would be given something else, or its result be taken otherwise."""
SHARE = (0.005, 0.98)
"""Between these shares of a volume lies every head and every brain."""


def mask_by_command(image: Image, command: Sequence[str], *, timeout_s: float) -> NDArray[np.bool_]:
    """Run a program on a volume and take its output as the mask.

    Parameters
    ----------
    image : Image
        One 3-D volume.
    command : sequence of str
        Program and arguments; ``{input}`` and ``{output}`` in them become the names of files.
    timeout_s : float
        The program, and what it has started, is ended after this time.

    Returns
    -------
    NDArray of bool
        Voxels in which the output is not 0: a mask, or the image without its skull.

    Raises
    ------
    DataError
        If the program is not there, fails (with its last words), is too slow, or its output is missing, on another
        grid or no mask.
    """
    with tempfile.TemporaryDirectory(prefix="polysite-mask-") as folder:
        source, result = Path(folder) / "input.nii.gz", Path(folder) / "output.nii.gz"
        write_image(image, source)
        words = [part.replace("{input}", str(source)).replace("{output}", str(result)) for part in command]
        _run(words, Path(folder), timeout_s)
        if not result.is_file():
            there = ", ".join(sorted(path.name for path in Path(folder).iterdir()))
            raise DataError(
                f"{command[0]} ended well but wrote no {result.name} (there are: {there}); check how mask_command "
                "uses {output}"
            )
        found = read_image(result)
    if found.array.ndim != 3 or not _grid(found).same_as(_grid(image)):
        raise DataError(
            f"{command[0]} wrote a volume of {found.shape} voxels on another grid than its input of {image.shape}"
        )
    if not np.isfinite(found.array).all():
        raise DataError(f"{command[0]} wrote NaN or infinite values")
    mask = found.array != 0
    low, high = SHARE
    if not low <= mask.mean() <= high:
        raise DataError(
            f"{command[0]} marked {100 * mask.mean():.1f} % of the volume, which is neither a head nor a brain"
        )
    return np.asarray(mask)


def _grid(image: Image) -> Grid:
    x, y, z = image.shape
    return Grid((x, y, z), image.affine)


def _run(words: Sequence[str], folder: Path, timeout_s: float) -> None:
    """Run a program in a folder to its end, as a process group so that nothing of it is left behind."""
    try:
        process = subprocess.Popen(
            words,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise DataError(
            f"mask_command: {words[0]!r} cannot be started: {error.strerror}; install it, or give its whole path"
        ) from error
    try:
        said, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{words[0]} was not done after {timeout_s:g} s; raise mask_timeout_s") from error
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode:
        last = " / ".join(said.decode(errors="replace").strip().splitlines()[-5:]) or "it said nothing"
        raise DataError(f"{words[0]} failed with status {process.returncode}: {last}")
