"""Earlier versions of the same recipe as a noise floor: what MLflow knows of them, and what somebody chose."""
