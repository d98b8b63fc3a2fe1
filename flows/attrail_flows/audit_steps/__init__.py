"""The steps of an audit as plain functions, and the tasks that call them."""
