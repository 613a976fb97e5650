# Every target sets up what it needs; `make` alone tells what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo demo-text gallery-demo test test-guests quick lint keys results bench bench-retrieval bench-prototypes bench-graph bench-shard bench-memory bench-estimate bench-export bench-prompts bench-languages bench-reid-task bench-finetune bench-small bench-faults bench-gallery bench-serve clean
.DEFAULT_GOAL := help

help:
	@echo "make demo   install, draw people, train CLIP-ReID on the CPU, show Rank-1 before and after"
	@echo "make demo-text  the same for search by sentence: drawn people with captions, TBPS-CLIP"
	@echo "make gallery-demo  fill a gallery with drawn people, ask it who somebody is, show its page"
	@echo "make test   install, lint, run the whole test suite (half an hour on two cores)"
	@echo "make test-guests  drive programs of others with exported files, each in an environment of its own (a gigabyte)"
	@echo "make quick  install, run the tests that are neither slow nor in need of a browser (three minutes)"
	@echo "make lint   style, directions of imports, types: ruff, import-linter, pyright"
	@echo "make keys   write docs/keys.md, the page of all keys"
	@echo "make results  write the tables of docs/results.md that are made from receipts of runs"
	@echo "make bench  time training steps, loaders and extraction beside textbook versions (more than an hour)"
	@echo "make bench-retrieval   time evaluation, re-ranking and search at the sizes of public data sets (half an hour)"
	@echo "make bench-prototypes   time the update of prototypes and the clustering of images (seven minutes)"
	@echo "make bench-graph   time the renewal of a graph of identities (half an hour)"
	@echo "make bench-shard   memory of each process with and without SOLVER.SHARD zero1 (two minutes)"
	@echo "make bench-memory   memory of a training step of AltCLIP with the settings that save some, counted without computing (ten minutes)"
	@echo "make bench-estimate   memory that a run foretells next to the peak of its process (five minutes)"
	@echo "make bench-export   parity, size and speed of exported models (eight minutes)"
	@echo "make bench-prompts   train prompt learning's methods on drawn people, test them there and in another domain (35 minutes)"
	@echo "make bench-languages  train a multilingual text tower on drawn people in one language and in three (half an hour)"
	@echo "make bench-reid-task  train with batches from a graph and with captions on drawn people (an hour)"
	@echo "make bench-finetune  train on few drawn people from random weights and from a model of others"
	@echo "make bench-small  train on 20 drawn people with configs/small, next to a colour histogram"
	@echo "make bench-faults   kill, starve and confuse short training runs, and tell what became of them (four minutes)"
	@echo "make bench-gallery   time galleries of up to a million entries next to faiss and a matrix product (an hour)"
	@echo "make bench-serve   200 clients ask a gallery's server for a minute: answers per second, seconds, memory (two minutes)"
	@echo "make clean  remove the environment and the demo's output"

$(BIN)/.installed: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(BIN)/.installed-dev: requirements-dev.txt requirements-extra.txt $(BIN)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

demo: $(BIN)/.installed
	$(BIN)/python tools/demo.py

demo-text: $(BIN)/.installed
	$(BIN)/python tools/demo.py --text

# What requirements-extra.txt has below [index], [serve] and [web].
$(BIN)/.installed-gallery: requirements-extra.txt $(BIN)/.installed
	awk '/^# \[/ { wanted = /\[(index|serve|web)\]/ } wanted' requirements-extra.txt > $@.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $@.txt
	touch $@

gallery-demo: $(BIN)/.installed-gallery
	$(BIN)/python tools/gallery_demo.py

lint: $(BIN)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/pyright --pythonpath $(BIN)/python

keys: $(BIN)/.installed
	$(BIN)/python -m config.page

results: $(BIN)/.installed
	$(BIN)/python -m benchmarks.results

# A worker for each core, up to four (a tower of full size takes 4 GB), and one thread for each worker.
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

test: lint
	$(TESTS) -m "not guest"

test-guests: $(BIN)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m guest

quick: $(BIN)/.installed-dev
	$(TESTS) -m "not slow and not browser and not service and not guest"

bench: $(BIN)/.installed
	$(BIN)/python -m benchmarks.training

bench-retrieval: $(BIN)/.installed
	$(BIN)/python -m benchmarks.ranking

bench-prototypes: $(BIN)/.installed
	$(BIN)/python -m benchmarks.prototypes

bench-graph: $(BIN)/.installed
	$(BIN)/python -m benchmarks.graph

bench-shard: $(BIN)/.installed
	$(BIN)/python -m benchmarks.shard

bench-memory: $(BIN)/.installed-dev
	$(BIN)/python -m benchmarks.training.memory

bench-estimate: $(BIN)/.installed
	$(BIN)/python -m benchmarks.training.estimate

bench-export: $(BIN)/.installed
	$(BIN)/python -m benchmarks.export

bench-prompts: $(BIN)/.installed
	$(BIN)/python -m benchmarks.prompts

bench-languages: $(BIN)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.languages

bench-reid-task: $(BIN)/.installed
	$(BIN)/python -m benchmarks.reid_task

bench-finetune: $(BIN)/.installed
	$(BIN)/python -m benchmarks.finetune

bench-small: $(BIN)/.installed
	$(BIN)/python -m benchmarks.small

bench-faults: $(BIN)/.installed
	$(BIN)/python -m benchmarks.faults

bench-gallery: $(BIN)/.installed-dev
	$(BIN)/python -m benchmarks.gallery

bench-serve: $(BIN)/.installed-dev
	$(BIN)/python -m benchmarks.serve

clean:
	rm -rf $(VENV) logs/demo
