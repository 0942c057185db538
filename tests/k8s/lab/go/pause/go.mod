module masters/tests/k8s/lab/pause

go 1.26.0
