"""One file per heavy library. Plain classes, usable in one process, without Ray."""
