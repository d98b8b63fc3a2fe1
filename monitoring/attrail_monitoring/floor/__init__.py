"""What this kind of change does anyway: noise floor, factors, envelope, sanity of the explainer, calibration."""
