"""Experiments: tasks, their data and models, and the way from a task to a finished run."""
