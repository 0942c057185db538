"""What `ray job submit` runs: one module per stage, and the whole pipeline."""
