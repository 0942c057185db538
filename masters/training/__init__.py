"""What runs on each worker of the gang."""
