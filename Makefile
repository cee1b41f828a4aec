# `make demo` and `make test` work in a fresh clone; everything they need goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
# No package of ONNX Runtime itself carries its headers; this one for Unity does.
HEADERS_SHA256 := e59788788818fdde1b2e522e766a21ba0f7d8391de55737abf81e32cc801785d

export ORT_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-gpu-package torture examples fuzz mutation lint check format bench peers gpu-check lock audit clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

demo: $(VENV)/.cpu ## read the sample pictures with the bundled model
	$(BIN)/rnnspn predict assets/images --model bundled --format table --annotate demo
	@echo "annotated pictures: demo/"

# A process for each core with one thread each: threads of several processes would wait for each other. The files go by
# their names, the slow ones of tests/cli first; by their number of tests, slow ones with few would come last.
test: $(VENV)/.dev ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test-gpu-package: $(VENV)/.gpu-package ## run the tests of predicting with onnxruntime-gpu in the place of onnxruntime
	OMP_NUM_THREADS=1 $(VENV)/gpu-package/bin/python -m pytest --numprocesses auto --dist loadfile -m 'not slow' \
	  tests/pictures tests/inference tests/results tests/cli/test_doctor.py tests/cli/test_inspect.py tests/cli/test_main.py tests/cli/test_predict.py

examples: ## fetch what the examples need: packages for JavaScript, ONNX Runtime's headers for C++
	cd examples/javascript && npm install --no-audit --no-fund
	rm -rf examples/cpp/include && mkdir examples/cpp/include
	cd examples/cpp/include && npm pack --silent com.github.asus4.onnxruntime@0.4.9 >/dev/null \
	  && echo "$(HEADERS_SHA256)  com.github.asus4.onnxruntime-0.4.9.tgz" | sha256sum --check --quiet \
	  && tar -xzf *.tgz --wildcards --strip-components 7 '*-simulator/onnxruntime.framework/Headers/*.h' && rm *.tgz

torture: $(VENV)/.dev ## try to break it, for twenty minutes; writes docs/reliability.md
	$(BIN)/python -m tests.torture

fuzz: $(VENV)/.fuzz ## look for pictures and models that are not survived, for twenty minutes (Linux)
	$(BIN)/python -m tests.torture.fuzz picture --seconds 600
	$(BIN)/python -m tests.torture.fuzz model --seconds 600

mutation: $(VENV)/.mutation ## see whether the tests notice changed code; writes docs/mutation.json
	$(BIN)/python benchmarks/mutation.py

lint: $(VENV)/.dev ## format, lint, types, architecture
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test ## everything that a change has to pass

format: $(VENV)/.dev ## format the code
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(VENV)/.dev ## time synthesis, training and prediction here
	$(BIN)/python benchmarks/synthesis.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/prediction.py

peers: $(VENV)/.dev ## time the runtime beside PyTorch, OpenVINO and a naive export
	$(PIP) openvino
	$(BIN)/python benchmarks/peers.py --json docs/peers.json --chart assets/figures/peers.png

# GPU_PYTHON=python3 takes an environment that is there already.
GPU_PYTHON ?= $(VENV)/gpu/bin/python
gpu-check: $(if $(filter $(VENV)/gpu/%,$(GPU_PYTHON)),$(VENV)/.gpu) ## on a GPU machine: agreement, placement and speed on CUDA, into docs/gpu-check.json
	PYTHONPATH=.:$$PYTHONPATH $(GPU_PYTHON) benchmarks/gpu_check.py --output docs/gpu-check.json

lock: $(VENV)/.dev ## hash everything that predicting needs, in the versions of constraints.txt
	$(PIP) uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --no-emit-index-url --constraint constraints.txt --extra cpu --output-file requirements-runtime.txt pyproject.toml

audit: $(VENV)/.dev ## ask the vulnerability database about everything that predicting needs
	$(PIP) pip-audit
	$(BIN)/pip-audit --require-hashes --requirement requirements-runtime.txt

clean: ## remove what the targets made
	rm -rf $(VENV) build dist demo

$(VENV)/.cpu: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[cpu]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[cpu,openvino,train,dev]'
	@touch $@

$(VENV)/.fuzz $(VENV)/.mutation: $(VENV)/.%: $(VENV)/.dev
	$(PIP) --editable '.[$*]'
	@touch $@

$(VENV)/.gpu: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)/gpu
	$(VENV)/gpu/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[gpu,train]'
	@touch $@

# The CUDA libraries that the extra `gpu` brings are several GB and of no use without a GPU.
$(VENV)/.gpu-package: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)/gpu-package
	$(VENV)/gpu-package/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --editable . flatbuffers hypothesis packaging protobuf pytest pytest-xdist
	$(VENV)/gpu-package/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --no-deps onnxruntime-gpu
	@touch $@
