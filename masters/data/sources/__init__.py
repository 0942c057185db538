"""Where rows come from: files of every kind, data sets on the hub, readers of one's own, charts that Masters draws."""
