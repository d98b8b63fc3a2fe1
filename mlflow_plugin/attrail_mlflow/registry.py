"""The registry: which versions there are, what they say of themselves, and their classifiers."""

import contextlib
import logging
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.environment_variables import MLFLOW_ALLOW_PICKLE_DESERIALIZATION
from mlflow.exceptions import MlflowException
from mlflow.models import Model, get_model_info
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, ErrorCode

from attrail_explainers.errors import RecordError, RegistryError
from attrail_mlflow.folder_digest import digest_folder
from attrail_mlflow.predicate import ModelIdentity

if TYPE_CHECKING:
    from attrail_explainers.classifier import Classifier

PERMANENT = {ErrorCode.Name(RESOURCE_DOES_NOT_EXIST), ErrorCode.Name(INVALID_PARAMETER_VALUE)}
URI = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>[^/@]+))")

logger = logging.getLogger("attrail.registry")


@dataclass(frozen=True)
class RegisteredVersion:
    """A model version as the registry knows it, before its model is loaded.

    ``classes`` and ``input_shape`` (C,H,W) come from the logged signature, None where it does not say; ``metadata`` is
    the logged model's own, with what ``log_classifier`` writes under the key ``attrail``.
    """

    name: str
    version: str
    source: str
    model_id: str | None
    run_id: str | None
    classes: int | None
    input_shape: tuple[int, ...] | None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{self.name}/{self.version}"

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.version}"

    @property
    def facts(self) -> Mapping[str, Any]:
        """What attrail's own logging wrote beside the model: preprocessing, classes, timm model."""
        found = self.metadata.get("attrail")
        return found if isinstance(found, Mapping) else {}


class Registry:
    """MLflow's registry and tracking store at one address. It becomes MLflow's address for the whole process.

    Raises RegistryError when the address is an SQLite file that does not exist: MLflow would make an empty one.
    """

    def __init__(self, tracking_uri: str | None = None) -> None:
        self.tracking_uri = tracking_uri or mlflow.get_tracking_uri()
        database = self.tracking_uri.removeprefix("sqlite:///")
        if database != self.tracking_uri and not Path(database).is_file():
            raise RegistryError(f"tracking_uri {self.shown}: there is no such SQLite file; correct the path")
        mlflow.set_tracking_uri(self.tracking_uri)
        self._artifact_digests: dict[str, str] = {}
        self.client = mlflow.MlflowClient(self.tracking_uri)

    @property
    def shown(self) -> str:
        """The address without a user name and password, for messages and records."""
        return without_password(self.tracking_uri)

    def resolve(self, model: str, reference: str) -> RegisteredVersion:
        """The version that an alias, a version number or a ``models:/`` URI names; RegistryError if there is none."""
        uri = URI.fullmatch(reference)
        if reference.startswith("models:") and uri is None:
            raise RegistryError(f"{reference!r} is no model URI: write models:/NAME/VERSION or models:/NAME@ALIAS")
        name = uri["name"] if uri else model
        number = uri["version"] if uri else reference if reference.isdigit() else None
        alias = uri["alias"] if uri else reference
        try:
            found = (
                self.client.get_model_version(name, number)
                if number
                else self.client.get_model_version_by_alias(name, alias)
            )
        except MlflowException as error:
            if error.error_code not in PERMANENT:
                raise self._error(f"version {reference!r} of model {name!r} cannot be looked up", error) from error
            raise RegistryError(f"model {name!r} has no version {reference!r}{self._known(name)}") from error
        return self._described(found)

    def load(self, version: RegisteredVersion, *, allow_pickle: bool = False) -> "Classifier":
        """The version's classifier. RegistryError when its model is not a PyTorch one, or pickled and not allowed."""
        from attrail_explainers.loading import (  # noqa: PLC0415 - it loads torch, the registry does not
            classifier_from_export,
            classifier_from_module,
        )

        with tempfile.TemporaryDirectory(prefix="attrail-") as folder, self._translated(f"model {version.uri}"):
            local = Path(mlflow.artifacts.download_artifacts(artifact_uri=version.uri, dst_path=folder))
            self._remember(version, digest_folder(local))
            flavor = Model.load(str(local)).flavors.get("pytorch")
            if flavor is None:
                raise RegistryError(f"model {version.uri} was not logged with MLflow's PyTorch flavour")
            archive = local / flavor["model_data"] / "model.pt2"
            if archive.is_file():
                _require_pickle_free(local, version)
                return classifier_from_export(archive, version.name, version.version)
            if not allow_pickle:
                raise RegistryError(
                    f"model {version.uri} is pickled, and loading it could run any code: log it in MLflow's default "
                    "pt2 format, or set allow_pickle = true in [policy] if you trust whoever logged it"
                )
            return classifier_from_module(_unpickled(local, version), version.name, version.version)

    def identity(self, version: RegisteredVersion, weights_digest: str) -> ModelIdentity:
        """The version bound to the files that ``load`` read here, so that these and no others were explained.

        Raises RecordError when it was not loaded.
        """
        digest = self._artifact_digests.get(version.uri)
        if digest is None:
            raise RecordError(f"{version.uri} was not loaded here, so no statement can say which files it has")
        return ModelIdentity(version.name, version.version, version.source, digest, weights_digest)

    def aliases(self, version: RegisteredVersion) -> tuple[str, ...]:
        """The aliases that name a version now."""
        with self._translated(f"the aliases of {version.uri} cannot be looked up"):
            return tuple(sorted(self.client.get_model_version(version.name, version.version).aliases))

    def _remember(self, version: RegisteredVersion, digest: str) -> None:
        if self._artifact_digests.setdefault(version.uri, digest) != digest:
            raise RegistryError(f"the files of {version.uri} changed while it was audited: audit it again")

    def _described(self, found: ModelVersion) -> RegisteredVersion:
        with self._translated(f"model version {found.name}/{found.version} has no readable MLmodel file"):
            info = get_model_info(f"models:/{found.name}/{found.version}")
        source = str(found.source)
        return RegisteredVersion(
            name=found.name,
            version=str(found.version),
            source=source,
            model_id=source.removeprefix("models:/") if source.startswith("models:/m-") else None,
            run_id=found.run_id or None,
            classes=_last_dimension(info.signature),
            input_shape=_image_shape(info.signature),
            metadata=info.metadata or {},
        )

    def _known(self, name: str) -> str:
        """What there is instead, for an error message."""
        try:
            model = self.client.get_registered_model(name)
            versions = sorted(int(each.version) for each in self.client.search_model_versions(f"name='{name}'"))
        except MlflowException:
            return f"; the registry at {self.shown} has no such model"
        return f"; it has the versions {versions} and the aliases {sorted(model.aliases)}"

    @contextlib.contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        """MLflow's errors as a RegistryError in one sentence; trying again may help unless the thing does not exist."""
        try:
            yield
        except MlflowException as error:
            raise self._error(what, error) from error
        except OSError as error:
            raise RegistryError(f"{what}: {error}", transient=True) from error

    def _error(self, what: str, error: MlflowException) -> RegistryError:
        reason = str(error).strip().partition("\n")[0][:300]
        permanent = error.error_code in PERMANENT
        return RegistryError(f"{what} (MLflow at {self.shown} says: {reason})", transient=not permanent)


def without_password(uri: str) -> str:
    """An address without its user name and password."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri


def _unpickled(local: Path, version: RegisteredVersion) -> Any:
    """The pickled module, which the policy allows; RegistryError when its code is not installed here."""
    try:
        with _pickle_allowed(True):
            return mlflow.pytorch.load_model(str(local), map_location="cpu")
    except (ImportError, AttributeError) as error:
        raise RegistryError(
            f"model {version.uri} is pickled and its code is not here: {error}; install it, or log the model as pt2"
        ) from error


def _require_pickle_free(local: Path, version: RegisteredVersion) -> None:
    """Let MLflow scan the archive: it loads one only if no record of it unpickles anything but tensors."""
    try:
        with _pickle_allowed(False):
            mlflow.pytorch.load_model(str(local))
    except MlflowException as error:
        raise RegistryError(
            f"model {version.uri}: its pt2 archive holds pickled objects and is refused: {error}"
        ) from error


@contextlib.contextmanager
def _pickle_allowed(allowed: bool) -> Iterator[None]:
    before = MLFLOW_ALLOW_PICKLE_DESERIALIZATION.get_raw()
    MLFLOW_ALLOW_PICKLE_DESERIALIZATION.set(allowed)
    try:
        yield
    finally:
        if before is None:
            MLFLOW_ALLOW_PICKLE_DESERIALIZATION.unset()
        else:
            MLFLOW_ALLOW_PICKLE_DESERIALIZATION.set(before)


def _tensor_shape(schema: Any) -> tuple[int, ...] | None:
    if schema is None or not schema.is_tensor_spec() or len(schema.inputs) != 1:
        return None
    return tuple(schema.inputs[0].shape)


def _last_dimension(signature: Any) -> int | None:
    shape = _tensor_shape(signature.outputs) if signature else None
    return shape[-1] if shape and len(shape) == 2 and shape[-1] > 0 else None


def _image_shape(signature: Any) -> tuple[int, ...] | None:
    shape = _tensor_shape(signature.inputs) if signature else None
    return shape[1:] if shape and len(shape) == 4 else None
