"""What this kind of change does anyway: noise floor, envelope, sanity of the explainer, calibration."""
