"""A model's folder, looked at before anything of it is loaded: which files there may be, and nothing else.

Allowed is what ``mlflow.pytorch.log_model`` writes for an exported program, with or without examples: none of it is
code. What a policy with ``allow_pickle`` adds is the pickled module and its one companion, never the model's own code.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from attrail_explainers.errors import EvidenceError, RegistryError
from attrail_mlflow.registry.folder_digest import WRITTEN_BY_DOWNLOADS, names_below
from attrail_mlflow.registry.mlmodel_file import FILE, LOG_AGAIN, MLmodel, read_mlmodel

ENVIRONMENT = {"conda.yaml", "constraints.txt", "python_env.yaml", "requirements.txt"}
BESIDE = {
    *(FILE, WRITTEN_BY_DOWNLOADS, "environment_variables.txt", "input_example.json", "serving_input_example.json"),
    *ENVIRONMENT,
    *(f"metadata/{name}" for name in (FILE, *ENVIRONMENT)),  # copies that some registries keep
}
EXPORT = "model.pt2"
PICKLE, PICKLED_BY = "model.pth", "pickle_module_info.txt"
PICKLE_MODULES = {"mlflow.pytorch.pickle_module", "pickle", "cloudpickle"}


@dataclass(frozen=True)
class ModelFolder:
    """A checked folder: what MLmodel says, and the one file that holds the model; ``pickled_by`` None: an export."""

    mlmodel: MLmodel
    path: Path
    pickled_by: str | None = None


def checked_folder(folder: Path, what: str, *, allow_pickle: bool = False) -> ModelFolder:
    """The folder of a model, if it holds nothing else than an exported program and what describes it.

    Raises RegistryError, which names the model as ``what``: for a file that ``log_model`` does not write, a link, a
    pickled model that is not allowed, code, and what ``read_mlmodel`` raises. Nothing of the folder is loaded.
    """
    try:
        names = set(names_below(folder))
    except EvidenceError as error:
        raise RegistryError(f"{what}: {error}") from error
    mlmodel = read_mlmodel(folder, what)
    require_members(names, mlmodel, what, allow_pickle=allow_pickle)
    data = folder / mlmodel.data
    if f"{mlmodel.data}/{PICKLE}" in names:
        return ModelFolder(mlmodel, data / PICKLE, _known_pickler(data / PICKLED_BY, what))
    return ModelFolder(mlmodel, data / EXPORT)


def require_members(names: set[str], mlmodel: MLmodel, what: str, *, allow_pickle: bool) -> None:
    """Raise RegistryError unless the names of a model's files, with slashes, are those that are allowed."""
    inside = {name.removeprefix(f"{mlmodel.data}/") for name in names if name.startswith(f"{mlmodel.data}/")}
    if PICKLE in inside and not allow_pickle:
        raise RegistryError(
            f"{what} is pickled, and loading it could run any code: log it in MLflow's default "
            "pt2 format, or set allow_pickle = true in [policy] if you trust whoever logged it"
        )
    model = {PICKLE, PICKLED_BY} if PICKLE in inside else {EXPORT}
    extra = {name for name in names if _was_logged_beside(name, mlmodel)}
    allowed = BESIDE | extra | {f"{mlmodel.data}/{name}" for name in model}
    for name in sorted(names - allowed):
        raise RegistryError(
            f"{what} has the file {name!r}, which no exported model needs, so it is refused; {LOG_AGAIN}"
        )
    for name in sorted(model - inside):
        raise RegistryError(f"{what} lacks the file {mlmodel.data}/{name}; {LOG_AGAIN}")


def _was_logged_beside(name: str, mlmodel: MLmodel) -> bool:
    """Whether MLmodel names a file, or a folder above it, as an extra file; these are never read."""
    above = {name, *map(str, PurePosixPath(name).parents)}
    return name.startswith("extra_files/") and bool((above - {"extra_files"}) & mlmodel.extra_files)


def _known_pickler(path: Path, what: str) -> str:
    name = path.read_bytes()[:200].decode("utf-8", errors="replace").strip()
    if name not in PICKLE_MODULES:
        raise RegistryError(f"{what} was pickled by the module {name!r}, known are {', '.join(sorted(PICKLE_MODULES))}")
    return name
