PYTHON ?= python3
BIN    := .venv/bin
READY  := .venv/ready
# tests that a person runs while editing: pure functions, tables and texts
FAST   := tests/unit/arrays tests/unit/baselines tests/unit/judge tests/unit/metrics tests/unit/report tests/unit/vendor \
          tests/unit/run $(wildcard tests/unit/models/test_*.py) tests/unit/test_case.py tests/unit/test_chips.py \
          tests/unit/test_errors.py tests/unit/test_layers.py tests/unit/test_matrix.py tests/unit/test_vocabulary.py

# where it is set, as in many images, each process that a run starts would compile the suite and its libraries anew
run test test-fast: export PYTHONDONTWRITEBYTECODE :=

.PHONY: help run test test-fast test-vendor lint format bench mutants
help:            ## list the targets
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/: [^#]*## */\t/' | expand -t 12

# FP32 only: INT8 and FP16 run with pytest -m cpu
run: $(READY)    ## conformance tests on the cpu chip; nothing is downloaded     DATA=dir  ARGS="more pytest options"
	$(BIN)/pytest tests/conformance -m cpu --tier quick --require cpu --results results $(if $(DATA),--data $(DATA)) $(ARGS)

test: $(READY)   ## everything else: unit, properties, faults, simulated SDKs
	$(BIN)/pytest tests/unit tests/properties tests/faults tests/sdk -n auto --dist loadfile -q $(ARGS)

test-fast: $(READY) ## under a minute on two cores: what to run while editing
	$(BIN)/pytest $(FAST) -n auto --dist loadfile -q -m "not slow" $(ARGS)

# their makers' licences bind whoever uses them: no other target installs these
test-vendor: $(READY) .vendor/qnn/ready .vendor/rknn/ready .vendor/trt/ready ## tests on vendors' own compilers and emulators; downloads 4 GB
	$(BIN)/pytest tests/unit/backends/qualcomm tests/unit/backends/rockchip \
	  tests/unit/backends/nvidia/test_rtx_build.py -q -rs $(ARGS)

.vendor/qnn/ready:
	$(PYTHON) -m venv .vendor/qnn
	.vendor/qnn/bin/python -m pip install --quiet --disable-pip-version-check onnxruntime-qnn==2.7.0 onnx
	touch $@

# its simulator imports pkg_resources, which setuptools 81 dropped
.vendor/rknn/ready:
	$(PYTHON) -m venv .vendor/rknn
	.vendor/rknn/bin/python -m pip install --quiet --disable-pip-version-check rknn-toolkit2==2.5.0 "setuptools<81"
	touch $@

# TensorRT for RTX stands in for TensorRT: it builds without a GPU
.vendor/trt/ready:
	$(PYTHON) -m venv .vendor/trt
	.vendor/trt/bin/python -m pip install --quiet --disable-pip-version-check tensorrt-rtx numpy
	touch $@

lint: $(READY)   ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## let ruff repair what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# hotcoco is a peer to measure against, which nothing else needs; without a network its test is skipped
bench: $(READY)  ## host-side hot paths against their peers
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check hotcoco==1.3.0
	$(BIN)/pytest tests/benchmarks -q $(ARGS)

# nice: an hour on one core; ARGS="harness/judge/timing.py --each 0" tries every mutant of a module
mutants: $(READY) ## small faults planted in the code that judges, each of which a test must notice
	$(BIN)/python -m pip install --quiet --disable-pip-version-check cosmic-ray==8.7.0
	nice -n 15 $(BIN)/python -m tests.mutants $(ARGS)

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("chipproof needs Python 3.10 or newer; try: make PYTHON=python3.11") if sys.version_info < (3, 10) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@
