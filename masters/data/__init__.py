"""What lies in a run directory: samples, images, responses, verdicts, manifests; and how it is read and written."""
