"""What every flow run needs of Prefect: retries, progress, late runs, artifacts and events."""
