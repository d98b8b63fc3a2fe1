"""Convert a pickled module: order a confined process to, and believe of what comes back only what was looked at here.

No pickle is opened in this process: the archive is read as any other (``classifier_from_export``), the outputs as plain
arrays, the answer as text.
"""

import contextlib
import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attrail_explainers.confinement.confine import Confinement
from attrail_explainers.conversion.child import ANSWER
from attrail_explainers.conversion.exporting import AGAIN, ARCHIVE, BATCHES, OUTPUTS
from attrail_explainers.conversion.outputs import Arrays, outputs_of
from attrail_explainers.conversion.process import TO_LOG, Limits, run
from attrail_explainers.conversion.same_function import SameFunction, distance, largest
from attrail_explainers.digest import digest_of_file
from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.excerpt import excerpt
from attrail_explainers.files.plain_file import open_plain, read_plain
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.loading import classifier_from_export
from attrail_explainers.model.pixels import Pixels
from attrail_explainers.model.repeatability import ROUNDINGS, TOLERANCE
from attrail_explainers.slice import Preprocessing

NOISE = (8, 1.0)  # images of noise that every model is asked about, and their spread

REFUSALS = {
    "missing": "needs the package {name!r}, which cannot be imported here: install it, or pip install what the model's "
    "requirements.txt names (mlflow.pyfunc.get_model_dependencies fetches that file); code of your own is found on "
    "PYTHONPATH",
    "load": "cannot be unpickled here ({said}): its code must be importable as it was where the model was logged "
    "(versions as in its requirements.txt, code of your own on PYTHONPATH), and it may reach and write nothing; or "
    + TO_LOG,
    "module": "holds an object of the type {name}, no torch.nn.Module: log the module itself, not its weights or a "
    "wrapper around it",
    "script": "is TorchScript, which torch.export does not take: log the module that it was made from, in MLflow's "
    "default pt2 format",
    "call": "does not take images of shape (C,H,W) = {shape}: {said}; give the right one with --shape",
    "outputs": "returns no tensor: log a module whose forward returns its outputs as tensors",
    "export": "cannot be exported by torch {torch}: {said}; log a module whose forward is without what torch.export "
    "refuses, such as branches on values (torch.where or torch.cond instead) and other libraries' numbers",
    "memory": "needs more memory than the {memory:g} GiB that it may take ({said}): allow more with --memory",
}


@dataclass(frozen=True, eq=False)
class Conversion:
    """What became of a pickle: the ``archive``, read and checked as ``classifier``, and how it came about.

    ``module`` is the class that the confined process says was in it, ``training`` whether it was left in training mode,
    ``why_fixed`` torch's reason where the export takes one batch size alone.
    """

    archive: Path
    archive_digest: str
    classifier: Classifier
    outputs: tuple[int, ...] | None
    module: str
    training: bool
    why_fixed: str
    check: SameFunction
    confinement: Confinement
    torch: str = str(torch.__version__)


def noise(shape: tuple[int, int, int], seed: int) -> NDArray[np.float32]:
    """Seeded noise (8,C,H,W), of the size of images that were normalised."""
    count, spread = NOISE
    return np.random.default_rng(seed).normal(0, spread, (count, *shape)).astype(np.float32)


def as_pixels(images: NDArray[np.float32], preprocessing: Preprocessing | None) -> NDArray[np.uint8]:
    """Images (N,C,H,W) as the uint8 pixels that they came from; those of ``noise`` come from about every level."""
    pixels = Pixels((0.5,), (0.25,)) if preprocessing is None else Pixels.of(preprocessing)
    return pixels.array(images)


def convert_pickle(
    pickle: Path,
    name: str,
    version: str,
    images: NDArray[np.float32] | NDArray[np.uint8],
    folder: Path,
    limits: Limits,
    *,
    weaker: bool = False,
) -> Conversion:
    """Export the module in a file that ``torch.save`` wrote, in a confined process, and check that it is the same.

    ``images`` (N,C,H,W) are what both are asked about, the first eight noise; ``folder`` is empty, and gets the files.
    Raises ConfigError where this machine cannot confine the process in full, unless ``weaker``; UnsupportedModelError,
    in one sentence that says what to do, for whatever the pickle does or is.
    """
    label = f"{name}/{version}"
    out = folder / "out"
    (out / "home").mkdir(parents=True)
    np.save(folder / "images.npy", images)
    order = {
        **{"path": [each for each in sys.path if each], "model": str(pickle), "images": str(folder / "images.npy")},
        **{"out": str(out), "weaker": weaker, "memory": limits.memory, "seconds": limits.seconds},
        "file_size": 2**30 + 4 * pickle.stat().st_size,
    }
    confinement = run(order, folder, label, limits)
    with _expected(label):
        answer = json.loads(read_plain(_own(out / ANSWER)))
        if "refused" in answer:
            raise _refusal(answer, label, images, limits)
        return _checked(answer, out, (name, version), images, confinement)


def _refusal(answer: Mapping[str, Any], label: str, images: NDArray[Any], limits: Limits) -> Exception:
    told = {each: excerpt(answer[each]) for each in ("said", "name")}
    more = {"shape": images.shape[1:], "memory": limits.memory / 2**30, "torch": torch.__version__}
    words = REFUSALS[answer["refused"]].format(**told, **more)
    return UnsupportedModelError(f"model {label} {words}")


def _checked(
    answer: Mapping[str, Any], out: Path, which: tuple[str, str], images: NDArray[Any], confinement: Confinement
) -> Conversion:
    """The conversion, if its files are what they must be and its export answers as the pickled module did."""
    archive = _own(out / ARCHIVE)
    classifier = classifier_from_export(archive, *which)
    expected, again = _arrays(out / OUTPUTS), _arrays(out / AGAIN)
    label, rounding = classifier.label, max(TOLERANCE, ROUNDINGS * _spacing(classifier))
    if not distance(expected, again)[1] <= rounding * largest(expected):
        raise UnsupportedModelError(
            f"model {label} answers an image differently when asked twice, in evaluation mode as well: no export can "
            "be the same function; log a module that draws no random numbers there"
        )
    found = _answers(classifier, images)
    alike, moved = distance(expected, found)
    check = SameFunction(len(images), NOISE[0], largest(expected), moved, rounding)
    if not alike or not moved <= rounding * check.largest:
        raise UnsupportedModelError(
            f"model {label} and its export are not the same function: {check if alike else 'outputs of other shapes'}; "
            f"{TO_LOG}"
        )
    shape = tuple(expected[0].shape[1:]) if len(expected) == _batches(classifier, images) else None
    texts = (excerpt(answer["module"]), bool(answer["training"]), excerpt(answer["why_fixed"]))
    return Conversion(archive, digest_of_file(archive), classifier, shape, *texts, check, confinement)


def _answers(classifier: Classifier, images: NDArray[Any]) -> Arrays:
    """The export's own outputs, batch for batch as the module was asked."""
    graph, fixed = classifier.graph, classifier.batch_size
    given = torch.from_numpy(images)
    try:
        return outputs_of(graph or classifier.module, given, fixed or BATCHES[0], fixed=fixed is not None)
    except Exception as error:
        raise UnsupportedModelError(
            f"model {classifier.label} was exported, but its export does not take images of shape (C,H,W) = "
            f"{images.shape[1:]}: {excerpt(error)}; {TO_LOG}"
        ) from error


def _batches(classifier: Classifier, images: NDArray[Any]) -> int:
    return math.ceil(len(images) / (classifier.batch_size or BATCHES[0]))


def _spacing(classifier: Classifier) -> float:
    """Machine epsilon of the coarsest numbers that the model's weights are."""
    kinds = [each.dtype for each in classifier.module.state_dict().values() if each.is_floating_point()]
    return max((torch.finfo(each).eps for each in kinds), default=0.0)


def _arrays(path: Path) -> Arrays:
    """The arrays of a file in the order in which they were saved; objects, which would be pickles, are refused."""
    with open_plain(_own(path)) as file, np.load(file, allow_pickle=False) as found:
        return [found[f"arr_{place}"] for place in range(len(found.files))]


def _own(path: Path) -> Path:
    """The path, unless it leads elsewhere: the process may make no links where Landlock is in force."""
    if path.is_symlink():
        raise ValueError(f"{path.name} is a link")
    return path


@contextlib.contextmanager
def _expected(label: str) -> Iterator[None]:
    """Read what came back in the block; what is not as ``exporting`` writes it becomes one sentence."""
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UnsupportedModelError(
            f"model {label}: what its process left cannot be read ({excerpt(error)}); {TO_LOG}"
        ) from error
