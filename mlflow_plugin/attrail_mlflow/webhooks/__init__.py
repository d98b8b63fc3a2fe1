"""Deliveries of MLflow's webhooks, and those still to be worked on."""
