"""What people look at: progress lines, statistics, plots, the page."""
