"""Models as files and as modules: checkpoints, thresholds, processors, packing; and the tiny ones that the project trains."""
