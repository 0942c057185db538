"""The stages: each reads artifacts from the run directory and writes its own. The order is in `masters/pipeline.py`."""
