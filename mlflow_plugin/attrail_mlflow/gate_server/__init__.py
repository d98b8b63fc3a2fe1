"""MLflow's registry store with the gate in it: one transaction for decision, record and effect."""
