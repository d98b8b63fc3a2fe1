"""A model's folder, looked at before anything of it is loaded: which files there may be, and nothing else.

Allowed is what MLflow writes beside any model, with or without examples, and the members of the model's flavour
(``flavours/``): none of it is code. What a policy with ``allow_pickle`` adds are the members of flavours that can run
code, such as a pickled module and its one companion, never the model's own code.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from attrail_explainers.errors import EvidenceError, RegistryError
from attrail_mlflow.flavour import Flavour, flavour_among, named
from attrail_mlflow.registry.folder_digest import WRITTEN_BY_DOWNLOADS, names_below
from attrail_mlflow.registry.mlmodel_file import FILE, MLmodel, read_mlmodel
from attrail_mlflow.registry.wrapper import wrapped

ENVIRONMENT = {"conda.yaml", "constraints.txt", "python_env.yaml", "requirements.txt"}
BESIDE = {
    *(FILE, WRITTEN_BY_DOWNLOADS, "environment_variables.txt", "input_example.json", "serving_input_example.json"),
    *ENVIRONMENT,
    *(f"metadata/{name}" for name in (FILE, *ENVIRONMENT)),  # copies that some registries keep
}


@dataclass(frozen=True)
class ModelFolder:
    """A checked folder: what MLmodel says, the flavour that its files are of, and the one that holds the model."""

    mlmodel: MLmodel
    flavour: Flavour
    path: Path


def checked_folder(folder: Path, what: str, *, allow_pickle: bool = False) -> ModelFolder:
    """The folder of a model, if it holds nothing else than a model of a flavour that there is, and what describes it.

    Raises RegistryError, which names the model as ``what``: for a file that ``log_model`` does not write, a link, a
    pickled model that is not allowed, code, and what ``read_mlmodel`` raises. Nothing of the folder is loaded.
    """
    try:
        names = set(names_below(folder))
    except EvidenceError as error:
        raise RegistryError(f"{what}: {error}") from error
    mlmodel = read_mlmodel(folder, what, lambda: names)
    flavour = require_members(names, mlmodel, what, allow_pickle=allow_pickle)
    flavour.require_known(folder, mlmodel.data, what)
    return ModelFolder(mlmodel, flavour, folder / (mlmodel.wrapped or named(flavour.members[0], mlmodel.data)))


def require_members(names: set[str], mlmodel: MLmodel, what: str, *, allow_pickle: bool) -> Flavour:
    """The flavour of a model's files, by their names with slashes; RegistryError unless all of them are allowed.

    What lies beside a model that somebody's own code is wrapped around may be anything: none of it is opened.
    """
    if mlmodel.wrapped is not None:
        return wrapped(names, what).flavour
    flavour = flavour_among(names, mlmodel.flavor, mlmodel.data)
    if flavour.runs_code and not allow_pickle:
        raise RegistryError(
            f"{what} is pickled, and loading it could run any code: `attrail convert {what.removeprefix('model ')}` "
            "makes an exported version of it in a confined process; or log it in MLflow's default pt2 format, or set "
            "allow_pickle = true in [policy] if you trust whoever logged it"
        )
    needed = {named(each, mlmodel.data) for each in flavour.members}
    for name in sorted(names - BESIDE - needed):
        if not _was_logged_beside(name, mlmodel) and not flavour.may_have(name, mlmodel.data):
            raise RegistryError(
                f"{what} has the file {name!r}, which no exported model needs, so it is refused; {flavour.log_again}"
            )
    for name in sorted(needed - names):
        raise RegistryError(f"{what} lacks the file {name}; {flavour.log_again}")
    return flavour


def _was_logged_beside(name: str, mlmodel: MLmodel) -> bool:
    """Whether MLmodel names a file, or a folder above it, as an extra file; these are never read."""
    above = {name, *map(str, PurePosixPath(name).parents)}
    return name.startswith("extra_files/") and bool((above - {"extra_files"}) & mlmodel.extra_files)
