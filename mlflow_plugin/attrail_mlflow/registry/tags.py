"""Tags that attrail writes in MLflow, each once: what they are called is part of the format.

Nothing is imported here: MLflow reads some of them in everybody's process (``plugin/run_context.py``).
"""

PREFIX = "attrail."  # every tag of a version that starts so is evidence, which the gate looks at

# Of a model version.
STATEMENT_TAG = "attrail.statement"
WAIVER_TAG = "attrail.waiver"
RUN_ID_TAG = "attrail.run_id"
REFERENCE_TAG = "attrail.reference"
FLOOR_TAG = "attrail.floor"  # which earlier versions somebody chose as this one's noise floor
RETRAIN_TAG = "attrail.retrain"  # the source of the version that it is a retrain of: it may hold no protected role
RECIPE_TAG = "attrail.recipe"
SEED_TAG = "attrail.seed"
WEIGHTS_TAG = "attrail.weights"
REFERENCE_WEIGHTS_TAG = "attrail.reference_weights"
RETRAINS = "-retrains"  # how the name of the registered model ends that holds a model's retrains
CONVERTED_TAG = "attrail.converted"  # the digest of the pickled version's files that this one is an export of
CONVERTED_FROM_TAG = "attrail.converted_from"
CONVERTED_FILES_TAG = "attrail.converted_files"  # the digest of the export's own files
CONVERSION_RUN_TAG = "attrail.conversion_run"
RETRAIN_TAGS = (RETRAIN_TAG, RECIPE_TAG, SEED_TAG, WEIGHTS_TAG, REFERENCE_WEIGHTS_TAG)

# Of a run.
COMPLETE_TAG = "attrail.complete"
SEQUENCE_TAG = "attrail.sequence"
MODEL_TAG = "attrail.model"
POLICY_DIGEST_TAG = "attrail.policy_digest"
CALIBRATION_TAG = "attrail.calibration"
CALIBRATION_DIGEST_TAG = "attrail.calibration_digest"
ATTRIBUTIONS_TAG = "attrail.attributions"  # the digest of the weights that the run's attributions are of
FLOW_RUN_ID_TAG = "attrail.flow_run_id"
VERSION_TAG = "attrail.version"
REASON_TAG = "attrail.reason"

# Of both.
VERDICT_TAG = "attrail.verdict"
