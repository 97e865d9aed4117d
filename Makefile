# Everything a developer or a newcomer types. `make help` lists it.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
VIDEO  ?= tests/clips/dog_720p30_10s.mp4
OUTPUT ?= enhanced.mp4
SOAK   ?= 1
MEDIA  ?= tests/clips
WORK   ?= build/kept
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup run serve test test-slow test-scale s3-server check format bench bench-quality bench-transfer bench-crowd image-test examples-test kept soak audit lock proto docs clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "videoprocess needs Python 3.11 or newer; say which with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python lacks venv: install it first (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# What the service needs, and nothing else.
$(VENV)/.runtime: pyproject.toml requirements/runtime.txt $(wildcard proto/videoprocess/v1/*.proto) | $(BIN)/python
	$(BIN)/pip install --quiet --require-hashes --requirement requirements/runtime.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# What tests and checks need on top.
$(VENV)/.dev: $(VENV)/.runtime requirements/dev.txt
	$(BIN)/pip install --quiet --require-hashes --requirement requirements/dev.txt
	@touch $@

setup: $(VENV)/.dev ## make .venv with everything, for development
	@echo "ready: $(BIN)/videoprocess-server and $(BIN)/videoprocess"

run: $(VENV)/.runtime ## enhance a real clip through server and client; VIDEO=path takes any file, OUTPUT=path names the result
	@$(BIN)/python scripts/main_job.py "$(VIDEO)" "$(OUTPUT)"

serve: $(VENV)/.runtime ## start the service on 127.0.0.1:50051, data under ./data
	@exec $(BIN)/videoprocess-server serve

test: $(VENV)/.dev ## pass the tests
	$(BIN)/pytest -n 2 --dist worksteal

test-slow: $(VENV)/.dev ## pass the tests that kill, fill disks and restart, as samples
	$(BIN)/pytest -n 2 --dist worksteal -m "slow and not scale"

build/s3-server/versitygw: scripts/s3_server.sh
	scripts/s3_server.sh $(abspath $(@D))

s3-server: build/s3-server/versitygw ## build the S3 server that tests talk to; needs Go; without it they skip

# Ray has 80 MB: what needs it is installed for these tests only, which skip without it.
$(VENV)/.scale: $(VENV)/.dev requirements/scale.txt
	$(BIN)/pip install --quiet --require-hashes --requirement requirements/scale.txt
	@touch $@

test-scale: $(VENV)/.scale s3-server ## pass the tests with PostgreSQL, an S3 server and a Ray cluster of two nodes; needs Go and Debian's postgresql; SAMPLE=seed draws one of each file
	$(BIN)/pytest -n 3 --dist loadfile -m scale $(if $(SAMPLE),--sample $(SAMPLE))

check: $(VENV)/.dev ## lint, types, dependency rules, generated docs
	$(BIN)/ruff format --check server client tests scripts proto/codegen.py hatch_build.py
	$(BIN)/ruff check server client tests scripts proto/codegen.py hatch_build.py
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/generate_docs.py --check

format: $(VENV)/.dev ## format the code
	$(BIN)/ruff format server client tests scripts proto/codegen.py hatch_build.py
	$(BIN)/ruff check --fix server client tests scripts proto/codegen.py hatch_build.py

bench: $(VENV)/.dev ## measure; prints JSON, results are kept under docs/results; BENCH=speed takes one part, JSON=1 tells nothing else
	@$(BIN)/python scripts/bench.py --out docs/results/bench $(if $(BENCH),--only $(BENCH)) $(if $(JSON),--quiet)

bench-quality: $(VENV)/.dev ## measure pictures against known truth and other programs; CLIPS=files takes others; results under docs/results
	@$(BIN)/python scripts/bench_quality.py $(if $(CLIPS),--clips $(CLIPS)) --out docs/results

bench-transfer: $(VENV)/.dev ## measure uploads, downloads and Prepare beside bare grpcio; results under docs/results
	@$(BIN)/python scripts/bench_transfer.py --out docs/results/transfer

bench-crowd: $(VENV)/.dev ## measure 1,000 sessions, 200 slow uploads and 50 garbage connections at once; results under docs/results
	@$(BIN)/python scripts/bench_crowd.py --out docs/results/crowd.json

# Schemas of Kubernetes have an environment of their own, too.
$(VENV)/manifests/.manifests: requirements/manifests.txt | $(BIN)/python
	$(BIN)/python -m venv $(VENV)/manifests
	$(VENV)/manifests/bin/pip install --quiet --require-hashes --requirement requirements/manifests.txt
	@touch $@

image-test: $(VENV)/.runtime $(VENV)/manifests/.manifests ## build the container image, run it and send a clip through; needs root, no Docker engine
	$(VENV)/manifests/bin/kubernetes-validate --strict --quiet $(filter-out %/kustomization.yaml,$(wildcard deploy/kubernetes*/*.yaml)) deploy/kuberay/claim.yaml
	@PYTHONPATH=tests $(BIN)/python scripts/image_test.py

kept: $(VENV)/.dev ## ask other programs what results keep; MEDIA=folders of clips, WORK=folder that keeps what was made
	$(BIN)/python scripts/kept_table.py $(MEDIA) --work $(WORK) --jobs 2; kept=$$?; \
	$(BIN)/python scripts/play_elsewhere.py $(WORK); played=$$?; \
	$(BIN)/python scripts/compare_tools.py $(WORK) && test $$kept -eq 0 && test $$played -eq 0

examples-test: $(VENV)/.dev ## build examples/ and run them, the grpcurl page and the contract's commands against real services
	$(BIN)/pytest -m "" tests/acceptance/test_examples.py tests/acceptance/test_grpcurl.py tests/acceptance/test_contract_examples.py

soak: $(VENV)/.dev ## the long tests in full, with their numbers under docs/results
	VIDEOPROCESS_SOAK=$(SOAK) $(BIN)/pytest -n 2 --dist worksteal -m ""

# pip-audit and bandit have an environment of their own: nothing of them is in the service's.
$(VENV)/audit/.audit: requirements/audit.txt | $(BIN)/python
	$(BIN)/python -m venv $(VENV)/audit
	$(VENV)/audit/bin/pip install --quiet --require-hashes --requirement requirements/audit.txt
	@touch $@

audit: $(VENV)/audit/.audit ## look for known weaknesses of dependencies (asks pypi.org) and of the code
	$(VENV)/audit/bin/bandit --quiet --recursive --severity-level medium --confidence-level medium server client proto/codegen.py hatch_build.py
	$(VENV)/audit/bin/pip-audit --strict --require-hashes --disable-pip --requirement requirements/dev.txt

lock: $(VENV)/audit/.audit ## write requirements/*.txt anew from pyproject.toml; UPGRADE=1 takes newer versions
	UV=$(VENV)/audit/bin/uv scripts/lock.sh $(if $(UPGRADE),--upgrade)

proto: $(VENV)/.dev ## make the Python code of the protos
	$(BIN)/python proto/codegen.py

docs: $(VENV)/.dev ## make the generated pages of docs/
	$(BIN)/python scripts/generate_docs.py

clean: ## remove what was made, but not ./data
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache proto/videoprocess/v1/*_pb2*
