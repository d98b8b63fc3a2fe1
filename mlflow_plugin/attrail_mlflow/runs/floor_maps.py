"""The maps of a noise floor's models, as the calibration's run keeps them."""

import logging
from collections.abc import Iterator
from pathlib import Path

from mlflow.artifacts import list_artifacts
from mlflow.exceptions import MlflowException

from attrail_explainers.attributions import Attributions, load_attributions
from attrail_explainers.errors import RecordError
from attrail_mlflow.registry.fetching import fetched
from attrail_mlflow.runs.audit_run import ROOT
from attrail_monitoring.maps.version_maps import MapKey

FLOOR = "floor-"

logger = logging.getLogger("attrail.registry")


def floor_maps(run_id: str, subject: MapKey) -> Iterator[Attributions]:
    """The floor models' maps of one explainer on one slice, one model at a time: a slice's maps can be large.

    They only describe. What cannot be read, or is not what was written, is left out with a warning.
    """
    slice_name, explainer = subject
    try:
        found = list_artifacts(run_id=run_id, artifact_path=f"{ROOT}/maps/{slice_name}/{explainer}")
    except (MlflowException, OSError) as error:
        logger.warning("the floor's maps of %s on slice %s cannot be listed: %s", explainer, slice_name, error)
        return
    for path in sorted(each.path for each in found if Path(each.path).name.startswith(FLOOR)):
        try:
            with fetched(f"runs:/{run_id}/{path}") as file:
                maps = load_attributions(file)
        except (MlflowException, OSError, RecordError) as error:
            logger.warning("run %s: the floor's maps %s cannot be used: %s", run_id, path, error)
            continue
        yield maps
