"""What a run costs before it runs: rows, tokens, FLOPs, memory, disk, money. Pure arithmetic: no torch, no Ray, no network."""
