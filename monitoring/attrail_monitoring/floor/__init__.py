"""What this kind of change does anyway: noise floor, factors of stand-ins, envelope, sanity of the explainer, calibration."""
