"""Conversions in the registry: exported versions that ``attrail convert`` made of pickled ones, found by these files.

Their tags are no evidence, and count for no promotion.
"""

from dataclasses import dataclass

from mlflow.exceptions import MlflowException

from attrail_explainers.errors import RegistryError
from attrail_mlflow.registry.errors import asking
from attrail_mlflow.registry.experiments import THERE_ALREADY
from attrail_mlflow.registry.registry import RegisteredVersion, Registry
from attrail_mlflow.registry.searching import versions_named
from attrail_mlflow.registry.tags import CONVERSION_RUN_TAG, CONVERTED_FILES_TAG, CONVERTED_FROM_TAG, CONVERTED_TAG


@dataclass(frozen=True)
class Origin:
    """What a version was converted from: the ``uri`` of the pickled one, the digest of its ``files``, and in which run.

    ``export`` is the digest of the version's own files.
    """

    uri: str
    files: str
    export: str
    run_id: str


def find_conversion(
    registry: Registry, name: str, files: str, shape: tuple[int, ...] | None = None
) -> RegisteredVersion | None:
    """The newest version of a model that was converted from files of this digest, for images (C,H,W) if these are said.

    Raises RegistryError when MLflow cannot be asked, or its own files are no longer those that were made.
    """
    with asking(f"the versions of {name} cannot be looked up", registry.shown):
        tagged = [each for each in versions_named(registry.client, name) if each.tags.get(CONVERTED_TAG) == files]
    for each in tagged:
        found = registry.described(each)
        if shape is None or found.input_shape == shape:
            _require_files(registry, found, each.tags.get(CONVERTED_FILES_TAG))
            return found
    return None


def _require_files(registry: Registry, version: RegisteredVersion, export: str | None) -> None:
    with registry.files(version) as (_, digest):
        if digest != export:
            raise RegistryError(
                f"{version.uri} was converted from these files, but its own are no longer those that were made: delete "
                "that version, and convert again"
            )


def require_model(registry: Registry, name: str) -> None:
    """Make the registered model that a conversion goes to, unless it is there."""
    with asking(f"the registered model {name} cannot be made", registry.shown):
        try:
            registry.client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != THERE_ALREADY:
                raise


def mark_conversion(registry: Registry, version: RegisteredVersion, origin: Origin) -> None:
    """Write on a version what it was converted from; it is found as a conversion from the last tag on."""
    tags = {
        CONVERTED_FROM_TAG: origin.uri,
        CONVERSION_RUN_TAG: origin.run_id,
        CONVERTED_FILES_TAG: origin.export,
        CONVERTED_TAG: origin.files,
    }
    with asking(f"{version.label} cannot be marked as a conversion", registry.shown):
        for key, value in tags.items():
            registry.client.set_model_version_tag(version.name, version.version, key, value)
