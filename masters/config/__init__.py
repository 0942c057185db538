"""Recipes: one file per stage, `run.py` is the root. Imports neither torch nor ray."""
