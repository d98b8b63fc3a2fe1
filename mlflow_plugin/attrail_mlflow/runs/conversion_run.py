"""A conversion's run in MLflow: the export as MLflow itself logs one, registered, and the record of how it was made."""

import platform
import shutil
from collections.abc import Mapping
from importlib.metadata import version as version_of
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import yaml
from mlflow import pyfunc
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from numpy.typing import NDArray

from attrail_explainers.errors import AttrailError
from attrail_mlflow.registry.conversions import Origin, mark_conversion, require_model
from attrail_mlflow.registry.errors import asking
from attrail_mlflow.registry.experiments import experiment_id
from attrail_mlflow.registry.mlmodel_file import FILE
from attrail_mlflow.registry.registry import RegisteredVersion, Registry
from attrail_mlflow.registry.retrains import remove_version
from attrail_mlflow.registry.tags import CONVERTED_FROM_TAG, CONVERTED_TAG
from attrail_mlflow.runs.ending import finishing

RECORD, DATA = "conversion.json", "data"
ENVIRONMENT = ("conda.yaml", "python_env.yaml", "requirements.txt")


def signature_of(batch: int | None, images: NDArray[Any], outputs: tuple[int, ...] | None) -> ModelSignature:
    """MLflow's signature of a model of such images (N,C,H,W): any number of them (-1) unless ``batch`` is one number.

    ``outputs`` is the shape of one image's outputs, None where these are several tensors.
    """
    count = batch or -1
    answers = None if outputs is None else Schema([TensorSpec(np.dtype(np.float32), (count, *outputs))])
    return ModelSignature(Schema([TensorSpec(images.dtype, (count, *images.shape[1:]))]), answers)


def keep_conversion(
    registry: Registry,
    experiment: str,
    source: RegisteredVersion,
    name: str,
    archive: Path,
    signature: ModelSignature,
    record: Mapping[str, Any],
) -> RegisteredVersion:
    """The new version of ``name`` that an export of a pickled version became, with the ``record`` beside it.

    The version names the run that trained its source, for that is how it was trained; the run that converted it is in
    its tags, has the record and logs the model. Preprocessing, class names and whatever else the source says of itself
    go with it. No alias is moved. Raises RegistryError when MLflow refuses.
    """
    client = registry.client
    tags = {CONVERTED_FROM_TAG: source.uri, CONVERTED_TAG: record["source"]["files"]}
    with asking("no run for a conversion can be started in MLflow", registry.shown):
        started = client.create_run(experiment_id(client, experiment), run_name=f"convert {source.label}", tags=tags)
        client.log_dict(started.info.run_id, dict(record), RECORD)
    run_id = started.info.run_id
    with finishing(registry, run_id):
        metadata = {**source.metadata, "attrail": {**source.facts, "conversion": dict(record)}}
        with asking(f"run {run_id}: the export cannot be logged", registry.shown):
            logged = _logged(run_id, archive, signature, metadata, record["packages"]["torch"])
            require_model(registry, name)
            made = client.create_model_version(
                name,
                logged.model_uri,
                source.run_id or run_id,
                description=f"attrail convert exported it from {source.uri}, which is pickled.",
                model_id=logged.model_id,
            )
        return _marked(registry, name, str(made.version), source, record["source"]["files"], run_id)


def _marked(
    registry: Registry, name: str, number: str, source: RegisteredVersion, files: str, run_id: str
) -> RegisteredVersion:
    """The version, read again as anybody would and marked; no version any more when that cannot be done."""
    try:
        version = registry.resolve(name, number)
        with registry.files(version) as (_, digest):
            mark_conversion(registry, version, Origin(source.uri, files, digest, run_id))
    except AttrailError:
        remove_version(registry, name, number)
        raise
    return version


def _logged(run_id: str, archive: Path, signature: ModelSignature, metadata: Mapping[str, Any], torch: str) -> Any:
    """MLflow's facts about the export by this torch, logged in a run, which need not be the active one."""
    flavour = SimpleNamespace(__name__="mlflow.pytorch", save_model=_save)
    given = {"archive": archive, "signature": signature, "metadata": dict(metadata), "torch": torch}
    return Model.log(None, flavour, name="model", run_id=run_id, serialization_format="pt2", **given)


def _save(path: str, mlflow_model: Model, archive: Path, signature: ModelSignature, torch: str, **_: Any) -> None:
    """Write a model's folder as ``mlflow.pytorch.save_model`` does, which takes modules alone and no export."""
    folder = Path(path)
    (folder / DATA).mkdir(parents=True)
    shutil.copyfile(archive, folder / DATA / "model.pt2")
    mlflow_model.signature = signature
    mlflow_model.add_flavor("pytorch", model_data=DATA, pytorch_version=torch, code=None)
    pyfunc.add_to_model(
        mlflow_model,
        loader_module="mlflow.pytorch",
        data=DATA,
        pickle_module_name="mlflow.pytorch.pickle_module",
        conda_env=ENVIRONMENT[0],
        python_env=ENVIRONMENT[1],
        model_config={"device": None},
    )
    mlflow_model.model_size_bytes = archive.stat().st_size
    mlflow_model.save(str(folder / FILE))
    _write_environment(folder)


def _write_environment(folder: Path) -> None:
    needed = [f"{name}=={version_of(name)}" for name in ("mlflow", "torch", "torchvision")]
    python = platform.python_version()
    conda = {"channels": ["conda-forge"], "dependencies": [f"python={python}", "pip", {"pip": needed}]}
    virtual = {"python": python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
    contents = (yaml.safe_dump(conda), yaml.safe_dump(virtual), "\n".join(needed) + "\n")
    for name, content in zip(ENVIRONMENT, contents, strict=True):
        (folder / name).write_text(content, encoding="utf-8")
