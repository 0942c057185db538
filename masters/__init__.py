"""Masters: masking teacher, reinforcing student. `masters/pipeline.py` is the table of contents."""

__version__ = "0.1.0"
