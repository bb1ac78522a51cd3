# make run    conformance tests on the cpu chip; nothing is downloaded     DATA=dir  ARGS="more pytest options"
# make test   everything else: unit, properties, faults, simulated SDKs
# make lint   ruff and mypy                make bench   host-side hot paths against their peers
PYTHON ?= python3
BIN    := .venv/bin
READY  := .venv/ready

.PHONY: run test lint bench
# FP32 only: INT8 and FP16 run with pytest -m cpu
run: $(READY)
	$(BIN)/pytest tests/conformance -m "cpu and fp32" --require cpu --results results $(if $(DATA),--data $(DATA)) $(ARGS)

test: $(READY)
	$(BIN)/pytest tests/unit tests/properties tests/faults tests/sdk -n auto --dist loadfile -q $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# a peer to measure against, which nothing else needs; without a network its test is skipped
bench: $(READY)
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check hotcoco==1.3.0
	$(BIN)/pytest tests/benchmarks --benchmark-enable -q $(ARGS)

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("chipproof needs Python 3.10 or newer; try: make PYTHON=python3.11") if sys.version_info < (3, 10) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@
