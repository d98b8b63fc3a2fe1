"""The registry: which versions there are, what they say of themselves, and their classifiers."""

import contextlib
import logging
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import mlflow
import requests
from mlflow.entities.model_registry import ModelVersion

from attrail_explainers.errors import EvidenceError, RecordError, RegistryError
from attrail_explainers.files.plain_file import open_plain
from attrail_mlflow.registry.errors import asking, found_or_none
from attrail_mlflow.registry.fetching import fetch_model, fetch_small, listed
from attrail_mlflow.registry.folder_digest import digest_folder
from attrail_mlflow.registry.mlmodel_file import FILE, MLmodel, read_mlmodel
from attrail_mlflow.registry.model_folder import ModelFolder, checked_folder, require_members
from attrail_mlflow.registry.searching import versions_named
from attrail_mlflow.statements.predicate import ModelIdentity

if TYPE_CHECKING:
    from attrail_explainers.model.classifier import Classifier

NUMBER = "[0-9]+"
URI = re.compile(
    r"models:/(?:(?P<model_id>m-[0-9A-Za-z-]+)|(?P<name>[^/]+)(?:/(?P<version>[0-9]+)|@(?P<alias>[^/@]+)))"
)
SQLITE = b"SQLite format 3\x00"  # how every such file begins, unless nothing was written yet
CONNECT = 5.0  # seconds until an address counts as one that nobody answers at
URIS = "models:/NAME/VERSION, models:/NAME@ALIAS or models:/m-ID"

logger = logging.getLogger("attrail.registry")


@dataclass(frozen=True)
class LoadedFiles:
    """The files that a version was loaded from: their digest (``folder_digest``), and whether they were a pickle."""

    digest: str
    pickled: bool


@dataclass(frozen=True)
class RegisteredVersion:
    """A model version as the registry knows it, before its model is loaded.

    ``classes``, ``input_shape`` (C,H,W) and ``input_type`` (float32, ...) come from the logged signature, None where it
    does not say; ``metadata`` is the logged model's own, with what ``log_classifier`` wrote under the key ``attrail``.
    ``wrapped`` is the file that is explained where somebody's own code is wrapped around it::

        version = Registry("http://127.0.0.1:5000").resolve("digits", "champion")
        version.label, version.class_names  # "digits/1" and the names in the order of the outputs
    """

    name: str
    version: str
    source: str
    model_id: str | None
    run_id: str | None
    classes: int | None
    input_shape: tuple[int, ...] | None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    input_type: str | None = None
    wrapped: str | None = None

    @property
    def label(self) -> str:
        """Name and version, ``digits/7``."""
        return f"{self.name}/{self.version}"

    @property
    def uri(self) -> str:
        """The version's address in MLflow, ``models:/digits/7``."""
        return f"models:/{self.name}/{self.version}"

    @property
    def facts(self) -> Mapping[str, Any]:
        """What attrail's own logging wrote beside the model: preprocessing, classes, timm model."""
        found = self.metadata.get("attrail")
        return found if isinstance(found, Mapping) else {}

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of the outputs, none where the model was logged without them."""
        found = self.facts.get("classes")
        return tuple(str(each) for each in found) if isinstance(found, list | tuple) else ()


class Registry:
    """MLflow's registry and tracking store at one address. It becomes MLflow's address for the whole process.

    ``tracking_uri`` is MLflow's own when None. Raises RegistryError when the address is an SQLite file that does not
    exist, where MLflow would make an empty one, or a file of another kind::

        registry = Registry("sqlite:///mlflow.db")
        classifier = registry.load(registry.resolve("digits", "champion"))  # its files are checked first
    """

    def __init__(self, tracking_uri: str | None = None) -> None:
        self.tracking_uri = tracking_uri or mlflow.get_tracking_uri()
        database = self.tracking_uri.removeprefix("sqlite:///")
        if database != self.tracking_uri:
            self._require_sqlite(Path(database))
        mlflow.set_tracking_uri(self.tracking_uri)
        self._loaded: dict[str, LoadedFiles] = {}
        self.client = mlflow.MlflowClient(self.tracking_uri)

    def _require_sqlite(self, database: Path) -> None:
        try:
            with open_plain(database) as file:
                beginning = file.read(len(SQLITE))
        except FileNotFoundError as error:
            told = f"tracking_uri {self.shown}: there is no such SQLite file; correct the path"
            raise RegistryError(told) from error
        except OSError as error:
            raise RegistryError(f"tracking_uri {self.shown}: the SQLite file cannot be read: {error}") from error
        if beginning not in {SQLITE, b""}:
            raise RegistryError(f"tracking_uri {self.shown}: the file is no SQLite database; correct the path")

    @property
    def shown(self) -> str:
        """The address without a user name and password, for messages and records."""
        return without_password(self.tracking_uri)

    def asking(self, what: str) -> contextlib.AbstractContextManager[None]:
        """Ask MLflow in the block; what it raises becomes a RegistryError that says ``what`` failed, and where."""
        return asking(what, self.shown)

    def require_answer(self) -> None:
        """Raise RegistryError unless something answers at the address, in one attempt of ``CONNECT`` seconds.

        What it answers does not matter here, nor a certificate that MLflow may know how to check.
        """
        if not self.tracking_uri.startswith(("http://", "https://")):
            return
        answered = (requests.exceptions.SSLError, requests.exceptions.ReadTimeout)
        with asking(f"MLflow at {self.shown} cannot be asked"), contextlib.suppress(*answered):
            requests.head(self.tracking_uri, timeout=CONNECT)

    def resolve(self, model: str, reference: str) -> RegisteredVersion:
        """The version that an alias, a version number or a ``models:/`` URI names; RegistryError if there is none."""
        return self.described(self.find(model, reference))

    def find(self, model: str, reference: str) -> ModelVersion:
        """The version, as MLflow's registry has it, that an alias, a number or a ``models:/`` URI names.

        ``model`` counts where the URI names none. Raises RegistryError when there is no such version, saying which
        there are, or when MLflow cannot be asked.
        """
        uri = URI.fullmatch(reference)
        if reference.startswith("models:") and uri is None:
            raise RegistryError(f"{reference!r} is no model URI: write {URIS}")
        if uri and uri["model_id"]:
            return self._registered(uri["model_id"])
        name = uri["name"] if uri else model
        number = uri["version"] if uri else reference if re.fullmatch(NUMBER, reference) else None
        alias = uri["alias"] if uri else reference
        look_up = self.client.get_model_version if number else self.client.get_model_version_by_alias
        with self.asking(f"version {reference!r} of model {name!r} cannot be looked up"):
            found = found_or_none(look_up, name, number or alias)
            if found is None:
                raise RegistryError(f"model {name!r} has no version {reference!r}{self._known(name, alias)}")
        if number and not uri:
            self._warn_of_alias(name, number)
        return found

    def _warn_of_alias(self, name: str, number: str) -> None:
        """Say it when a number that was taken for a version is another one's alias as well."""
        with self.asking(f"the aliases of {name} cannot be looked up"):
            other = self.client.get_registered_model(name).aliases.get(number)
        if other is not None and int(other) != int(number):
            _warn_once(
                f"{number!r} is taken for version {number} of {name}; it is an alias of version {other} as well: write "
                f"models:/{name}@{number} for that"
            )

    def require_loadable(self, version: RegisteredVersion, *, allow_pickle: bool = False) -> None:
        """Raise RegistryError unless the version's files have names that ``load`` takes.

        Its MLmodel file is all that is fetched, and the error is the one that ``load`` would raise. What is inside the
        files is looked at by ``load`` alone.
        """
        what = f"model {version.uri}"
        with self._reading(what):
            require_members(listed(version.uri), self.mlmodel(version.uri), what, allow_pickle=allow_pickle)

    def load(self, version: RegisteredVersion, *, allow_pickle: bool = False) -> "Classifier":
        """The version's classifier; its files are checked first, and no loader of MLflow sees them.

        Raises RegistryError when it cannot be fetched, is of no flavour that there is (or pickled and not allowed), or
        comes with anything that is not needed to load one; UnsupportedModelError when the export is not as it must be.
        """
        with self.files(version, allow_pickle=allow_pickle) as (checked, digest):
            self.remember(version, LoadedFiles(digest, checked.flavour.runs_code))
            found = checked.flavour.classifier(checked.path, version.name, version.version)
            return found.declared(version.input_type)

    @contextlib.contextmanager
    def files(self, version: RegisteredVersion, *, allow_pickle: bool = False) -> Iterator[tuple[ModelFolder, str]]:
        """A version's files, checked as ``load`` checks them, and their digest, in a folder that is gone afterwards."""
        what = f"model {version.uri}"
        with tempfile.TemporaryDirectory(prefix="attrail-") as folder:
            with self._reading(what):
                local = fetch_model(version.uri, Path(folder))
                digest = digest_folder(local)
            yield checked_folder(local, what, allow_pickle=allow_pickle), digest

    def described(self, found: ModelVersion) -> RegisteredVersion:
        """A version, as MLflow's registry has it, with what its MLmodel file says; RegistryError as ``resolve``."""
        mlmodel = self.mlmodel(f"models:/{found.name}/{found.version}")
        source = str(found.source)
        return RegisteredVersion(
            name=found.name,
            version=str(found.version),
            source=source,
            model_id=source.removeprefix("models:/") if source.startswith("models:/m-") else None,
            run_id=found.run_id or None,
            classes=mlmodel.classes,
            input_shape=mlmodel.input_shape,
            metadata=mlmodel.metadata,
            input_type=mlmodel.input_type,
            wrapped=mlmodel.wrapped,
        )

    def mlmodel(self, uri: str) -> MLmodel:
        """What the MLmodel file of a ``models:/`` URI says, with what the small files do that describe its model.

        Raises RegistryError when they cannot be fetched or read.
        """
        with tempfile.TemporaryDirectory(prefix="attrail-") as folder:
            found = self._read(uri, {FILE}, Path(folder))
            return self._read(uri, found.describing, Path(folder)) if found.describing else found

    def _read(self, uri: str, names: Collection[str], folder: Path) -> MLmodel:
        with self._reading(f"model {uri} cannot be fetched"):
            fetch_small(uri, names, folder)

        def every() -> set[str]:
            with self._reading(f"model {uri} cannot be fetched"):
                return listed(uri)

        return read_mlmodel(folder, f"model {uri}", every)

    def identity(self, version: RegisteredVersion, weights_digest: str) -> ModelIdentity:
        """The version bound to the files that were loaded, so that these and no others were explained.

        Raises RecordError when it was not loaded.
        """
        digest = self.loaded(version).digest
        return ModelIdentity(version.name, version.version, version.source, digest, weights_digest)

    def loaded(self, version: RegisteredVersion) -> LoadedFiles:
        """The files that ``load`` read, here or in a process that told; RecordError when it did not."""
        found = self._loaded.get(version.uri)
        if found is None:
            raise RecordError(f"{version.uri} was not loaded here, so no statement can say which files it has")
        return found

    def remember(self, version: RegisteredVersion, files: LoadedFiles) -> None:
        """Hold a version to the files it was loaded from; RegistryError when it was loaded from others before."""
        if self._loaded.setdefault(version.uri, files) != files:
            raise RegistryError(f"the files of {version.uri} changed while it was audited: audit it again")

    def aliases(self, version: RegisteredVersion) -> tuple[str, ...]:
        """The aliases that name a version now."""
        with self.asking(f"the aliases of {version.uri} cannot be looked up"):
            return tuple(sorted(self.client.get_model_version(version.name, version.version).aliases))

    def _registered(self, model_id: str) -> ModelVersion:
        """The one version whose files are those of a logged model; MLflow 3 prints the ids of these everywhere."""
        with self.asking(f"the versions of models:/{model_id} cannot be looked up"):
            found = list(self.client.search_model_versions(f"source_path = 'models:/{model_id}'"))
        if len(found) == 1:
            return found[0]
        uris = sorted(f"models:/{each.name}/{each.version}" for each in found)
        raise RegistryError(
            f"models:/{model_id} is registered as {', '.join(uris)}: write which one is meant"
            if found
            else f"models:/{model_id} is no version of a registered model at {self.shown}: register it first, with "
            f"mlflow.register_model({f'models:/{model_id}'!r}, NAME), and write models:/NAME/VERSION"
        )

    def _known(self, name: str, asked: str) -> str:
        """What there is instead, for an error message."""
        model = found_or_none(self.client.get_registered_model, name)
        if model is None:
            return f"; the registry at {self.shown} has no such model"
        versions = sorted(int(each.version) for each in versions_named(self.client, name))
        meant = f"; write models:/{name}@{asked} for the alias" if asked in model.aliases else ""
        return f"; it has the versions {versions} and the aliases {sorted(model.aliases)}{meant}"

    @contextlib.contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """Fetch files in the block: what ``asking`` raises, and a RegistryError for files that are no evidence."""
        try:
            with self.asking(what):
                yield
        except EvidenceError as error:
            raise RegistryError(f"{what}: {error}") from error


@cache
def _warn_once(told: str) -> None:
    """A version is looked up before a flow starts and in it; its ambiguity is said the first time."""
    logger.warning(told)


def without_password(uri: str) -> str:
    """An address without its user name and password."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri
