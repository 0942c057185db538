# `make help` lists the targets. The environment lives in .venv; nothing else on the machine is changed.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready
TOOLS := .build/tools
LOCKS := requirements/common.lock requirements/cpu.lock requirements/dev.lock

.PHONY: help setup demo demo-seeds study perf chaos test test-engines test-all test-chart test-cluster cluster-e2e kube-tools lab-tools node-tools image-test lint lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## install the CPU environment into .venv, from the lock files

$(READY): $(LOCKS) pyproject.toml
	@start=$$(date +%s); set -e; \
	test -x $(BIN)/python || $(PYTHON) -m venv .venv; \
	$(BIN)/python -m pip install --quiet uv==0.13.9; \
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes $(addprefix -r ,$(LOCKS)); \
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .; \
	touch $(READY); \
	echo "setup     environment ready in $$(( $$(date +%s) - start )) s (.venv, $$(du -sh .venv | cut -f1))"

demo: $(READY) ## the whole pipeline on tiny models: prepare, mask, generate, score, train, evaluate, report
	@$(BIN)/masters run recipes/tiny.yaml

demo-seeds: $(READY) ## three students from other seeds, with controls (an hour; not part of CI)
	@$(BIN)/python perf/demo_seeds.py

study: $(READY) ## Table 1 on the tiny pair: three fresh students, six rows, beside the paper (an hour or more; seconds when done)
	@for seed in 31 32 33; do student=runs/models/student-$$seed; \
	  test -f $$student/training.json || $(BIN)/masters tiny train student $$student --seed $$seed || exit 1; done
	@$(BIN)/masters study studies/ladder.yaml

perf: $(READY) ## side-by-side measurements on this machine, as ratios
	@for file in masking packing prepare stage objective gpu; do DS_ACCELERATOR=cpu OMP_NUM_THREADS=1 $(BIN)/python perf/$$file.py || exit 1; echo; done

test: $(READY) kube-tools ## unit tests, the chart, and the whole chain on tiny data (minutes)
	@$(BIN)/pytest -m "not slow and (chain or not engine)"

test-engines: $(READY) kube-tools ## the engines alone, kills, poison rows, a control plane
	@$(BIN)/pytest -m "not slow and engine and not chain"

test-all: $(READY) kube-tools ## both of the above and what takes longer
	@$(BIN)/pytest

chaos: $(READY) ## more than 20 kills at random moments; the tables must be the undisturbed run's (15 minutes)
	@$(BIN)/python -m tests.stages.chaos --kills 24

test-chart: $(READY) kube-tools ## the Helm chart alone: lint, schemas, policies, refused values
	@$(BIN)/pytest tests/k8s/render

kube-tools: $(READY) ## helm, kubectl and etcd for the chart's tests, into .build/tools
	@$(BIN)/python tests/k8s/get_tools.py

# The Kubernetes of the tests, built from its Go modules; minutes with an empty Go cache, seconds after that.
GO_KUBERNETES := tests/k8s/lab/go/kubernetes
KUBERNETES := v1.36.3
GO_BUILD := CGO_ENABLED=0 go build -trimpath -o $(CURDIR)/$(TOOLS)/ -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$(KUBERNETES) \
  -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36"
$(TOOLS)/kube-apiserver: $(GO_KUBERNETES)/go.sum $(GO_KUBERNETES)/tools.go
	@cd $(GO_KUBERNETES) && $(GO_BUILD) $(addprefix k8s.io/kubernetes/cmd/,kube-apiserver kube-controller-manager kube-scheduler)
	@touch $@

$(TOOLS)/kubelet: $(GO_KUBERNETES)/go.sum
	@cd $(GO_KUBERNETES) && $(GO_BUILD) $(addprefix k8s.io/kubernetes/cmd/,kubelet kube-proxy)
	@touch $@

$(TOOLS)/coredns: $(wildcard tests/k8s/lab/go/coredns/*)
	@cd tests/k8s/lab/go/coredns && $(GO_BUILD) .
	@touch $@

# KubeRay's operator, and of its resources the one that it watches and the chart does not use.
GO_KUBERAY := tests/k8s/lab/go/kuberay
$(TOOLS)/ray-operator: $(GO_KUBERAY)/go.sum
	@cd $(GO_KUBERAY) && $(GO_BUILD) github.com/ray-project/kuberay/ray-operator && \
	  install -m 644 $$(go list -m -f '{{.Dir}}' github.com/ray-project/kuberay/ray-operator)/config/crd/bases/ray.io_rayservices.yaml $(CURDIR)/$(TOOLS)/
	@touch $@

lab-tools: kube-tools $(TOOLS)/kube-apiserver $(TOOLS)/ray-operator ## a Kubernetes control plane for the tests, built by Go

node-tools: lab-tools $(TOOLS)/kubelet $(TOOLS)/coredns ## nodes for it: kubelet, kube-proxy, CoreDNS; wants Debian's containerd, runc, CNI plugins, nftables
	@for tool in containerd ctr runc nft; do command -v $$tool >/dev/null || { echo "$$tool is missing: apt-get install containerd runc containernetworking-plugins nftables"; exit 1; }; done

cluster-e2e: node-tools ## the whole suite on a cluster of two nodes: runs, drains, a node without power, a dead head (root)
	@$(BIN)/pytest tests/k8s/cluster/test_cluster.py

test-cluster: lab-tools ## the chart on a real control plane: etcd, API server, controllers, scheduler
	@$(BIN)/pytest tests/k8s/lab

image-test: ## build the cpu image here with buildah, and use it (root; Debian's buildah and mmdebstrap)
	@docker/image_test.sh

lint: $(READY) ## ruff, mypy, import contracts, hadolint
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --no-logo && $(BIN)/hadolint docker/Dockerfile

lock: ## resolve pyproject.toml into requirements/*.lock
	@$(BIN)/python requirements/lock.py

clean: ## remove the environment and the runs
	rm -rf .venv .build runs
