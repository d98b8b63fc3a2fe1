"""``attrail convert``: a pickled version becomes an exported one, checked to be the same function."""

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.errors import ConfigError
from attrail_explainers.slice import PIXELS, require_known_numbers
from attrail_flows.configuration import AuditConfig
from attrail_flows.inputs.slices import read_windows
from attrail_mlflow.flavours.pytorch_pickle import PyTorchPickle
from attrail_mlflow.registry.conversions import find_conversion
from attrail_mlflow.registry.preprocessing import stated_preprocessing
from attrail_mlflow.registry.registry import RegisteredVersion, Registry

if TYPE_CHECKING:
    from attrail_explainers.conversion.converting import Conversion
    from attrail_explainers.conversion.process import Limits

Shape = tuple[int, int, int]
Images = NDArray[np.float32] | NDArray[np.uint8]
SOME = 64  # images of each slice that export and pickle are both asked about

logger = logging.getLogger("attrail.convert")


@dataclass(frozen=True)
class Ordered:
    """What is asked for beside the version: the model ``to`` which the export goes, images (C,H,W), limits."""

    limits: "Limits"
    to: str | None = None
    shape: Shape | None = None
    weaker: bool = False


def convert_version(config: AuditConfig, model_uri: str, ordered: Ordered) -> list[str]:
    """Convert a pickled version and register the export; lines that say what was done, or why nothing was.

    Raises RegistryError and UnsupportedModelError for a version that cannot be fetched or converted, ConfigError when
    nothing says how large its images are, or where this machine cannot confine what loads it.
    """
    registry = Registry(config.registry.tracking_uri)
    registry.require_answer()
    version = registry.resolve(config.registry.model, model_uri)
    registry.require_loadable(version, allow_pickle=True)
    with registry.files(version, allow_pickle=True) as (checked, files):
        if not isinstance(checked.flavour, PyTorchPickle):
            return [f"nothing   {version.uri} is no pickle: attrail takes it as it is"]
        known = find_conversion(registry, ordered.to or version.name, files, ordered.shape)
        if known is not None:
            return [f"nothing   {known.uri} was converted from these very files before"]
        require_known_numbers(version.label, version.input_type)
        return _converted(registry, config, version, (checked.path, files), ordered)


def _converted(
    registry: Registry, config: AuditConfig, version: RegisteredVersion, pickle: tuple[Path, str], ordered: Ordered
) -> list[str]:
    from attrail_explainers.conversion.converting import convert_pickle  # noqa: PLC0415 - torch
    from attrail_mlflow.runs.conversion_run import keep_conversion, signature_of  # noqa: PLC0415

    path, files = pickle
    images = _images(config, version, ordered.shape)
    logger.info("%s is loaded once, in a confined process, and exported there", version.label)
    with tempfile.TemporaryDirectory(prefix="attrail-") as folder:
        which = (path, version.name, version.version)
        found = convert_pickle(*which, images, Path(folder), ordered.limits, weaker=ordered.weaker)
        signature = signature_of(found.classifier.batch_size, images, found.outputs)
        record = _record(version, files, found)
        name, experiment = ordered.to or version.name, config.registry.experiment
        made = keep_conversion(registry, experiment, version, name, found.archive, signature, record)
    return _lines(version, made, found)


def _images(config: AuditConfig, version: RegisteredVersion, given: Shape | None) -> Images:
    """Noise, and images of the slices where it is known how these become inputs; uint8 for models of these."""
    from attrail_explainers.conversion.converting import as_pixels, noise  # noqa: PLC0415 - torch

    stated = config.preprocessing.to_preprocessing() if config.preprocessing else stated_preprocessing(version)
    by_preprocessing = None if stated is None else (stated.channels, *stated.size)
    shape = given or _logged(version) or by_preprocessing
    if shape is None:
        raise ConfigError(
            f"nothing says how large the images of {version.label} are: give --shape C,H,W, such as 3,224,224"
        )
    if by_preprocessing not in {None, shape}:
        raise ConfigError(
            f"preprocessing gives images of shape (C,H,W) = {by_preprocessing}, {version.label} is to be exported for "
            f"{shape}: correct --shape or [preprocessing] size"
        )
    if stated is None:
        logger.warning("nothing says how pictures become inputs of %s: it is compared on noise alone", version.label)
    limited = [each.model_copy(update={"limit": min(each.limit or SOME, SOME)}) for each in config.slices]
    slices = read_windows(config.model_copy(update={"slices": tuple(limited)}), version) if stated else ()
    drawn = noise(shape, config.policy.seed)
    if version.input_type != PIXELS:
        return np.concatenate([drawn, *(each.images for each in slices)])
    return np.concatenate([as_pixels(drawn, None), *(as_pixels(each.images, each.preprocessing) for each in slices)])


def _logged(version: RegisteredVersion) -> Shape | None:
    """The size of images that the signature names, None where it leaves some of it open."""
    shape = version.input_shape
    return (shape[0], shape[1], shape[2]) if shape and len(shape) == 3 and min(shape) > 0 else None


def _record(version: RegisteredVersion, files: str, found: "Conversion") -> Mapping[str, Any]:
    """What there is to know of a conversion, for MLflow."""
    weights, program = found.classifier.identity
    return {
        "format": "attrail.conversion/1",
        "source": {"uri": version.uri, "source": version.source, "files": files, "run_id": version.run_id},
        "export": {"archive": found.archive_digest, "weights": weights, "program": program},
        "module": found.module,
        "left_in_training_mode": found.training,
        "batch_size": found.classifier.batch_size,
        "why_fixed": found.why_fixed,
        "same_function": asdict(found.check),
        "confinement": list(found.confinement.in_force),
        "lacking": list(found.confinement.lacking),
        "packages": {"attrail": version_of("attrail"), "torch": found.torch},
    }


def _lines(version: RegisteredVersion, made: RegisteredVersion, found: "Conversion") -> list[str]:
    lines = [f"converted {version.uri} is {made.uri} as well, exported; no alias was moved"]
    lines += [f"same      {found.check}"]
    if found.training:
        lines += ["mode      it was left in training mode, and was exported in evaluation mode"]
    if found.classifier.batch_size is not None:
        size = found.classifier.batch_size
        lines += [f"batch     it takes {size} at a time alone, and is slower for it: {found.why_fixed}"]
    lines += [f"confined  {each}" for each in found.confinement.in_force]
    return lines + [f"lacking   {each}" for each in found.confinement.lacking]
