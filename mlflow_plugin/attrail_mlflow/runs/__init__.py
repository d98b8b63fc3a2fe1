"""What is kept in MLflow runs, and found there again."""
