# make demo and make test are all a newcomer needs; each sets .venv up first (Python >= 3.11 with pip is enough).
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
TOOLS  := $(VENV)/.toolchains
# Two workers: what the build machine has; with more of them than cores, tests that wait for an answer within a second fail now and then.
JOBS   ?= 2

# Tests start hundreds of processes: each reads compiled modules, also where the environment asks for none to be written.
unexport PYTHONDONTWRITEBYTECODE

MANIFESTS := requirements-dev.txt constraints.txt pyproject.toml core/pyproject.toml $(wildcard plugins/*/pyproject.toml)
SOURCES   := hatch_build.py core plugins tests $(wildcard bench examples)

.PHONY: setup toolchains demo test test-long check lint types imports bench attacks attacks-wasm attacks-dht explore-consensus fuzz-air fuzz-slices fuzz-aqua fuzz-components fuzz-consensus aqua-realworld constraints clean

setup: $(READY)

# uv, inside of the environment, for speed; where it cannot be had pip does the same more slowly.
$(READY): $(MANIFESTS)
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.12 …")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv || echo "no uv here: using pip"
	@if test -x $(BIN)/uv; then \
		VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(BIN)/uv pip install --quiet --compile-bytecode -r requirements-dev.txt; \
	else \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt; \
	fi
	@touch $@

# What the templates of `fluvial service new` need, half a gigabyte; without it their tests are skipped, except on the build machine.
toolchains: $(TOOLS)

$(TOOLS): requirements-toolchains.txt Makefile $(READY)
	@if test -x $(BIN)/uv; then \
		VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(BIN)/uv pip install --quiet -r requirements-toolchains.txt; \
	else \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-toolchains.txt; \
	fi
	@if command -v npm >/dev/null; then \
		npm install --silent --no-audit --no-fund --no-package-lock --prefix $(VENV)/npm componentize-qjs@0.4; \
	else \
		echo "no npm here: no toolchain for services in JavaScript"; \
	fi
	@touch $@

demo: $(READY)
	$(BIN)/fluvial demo

# In the order of the folders: by number of tests, the few long ones would come last, and one worker would wait for the other.
test: $(READY) $(if $(CI),$(TOOLS))
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not long"

# Those that take many seconds each: stories over many processes, plugins built by pip, liars in a whole network; two at a time.
test-long: $(READY) $(if $(CI),$(TOOLS))
	$(BIN)/python -m pytest -n 2 --dist worksteal -m long

check: lint types imports test test-long

lint: $(READY)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)


types: $(READY)
	$(BIN)/mypy core/fluvial $(wildcard plugins/*/fluvial_*) hatch_build.py

imports: $(READY)
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r bench/requirements.txt || echo "without the programs of others"
	$(BIN)/python -m bench

# Random AIR scripts through the interpreter and its plain form, for a time: `make fuzz-air SECONDS=600 SEEDS=7`. With REFERENCE, the folder of
# an AquaVM harness, differences from it are counted by cause; REFERENCE_ONLY=1 does nothing else. GENERATOR (a command) or SCENARIOS
# (folders) in place of our own generator. ANSWERS is a folder in which what the reference has answered is kept for the next time.
SECONDS ?= 60
fuzz-air: $(READY)
	$(BIN)/python -m tests.fuzz.air --seconds $(SECONDS) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(FIRST),--first $(FIRST)) $(if $(COUNT),--count $(COUNT)) \
		$(if $(GENERATOR),--generator '$(GENERATOR)') $(if $(SCENARIOS),--scenarios $(SCENARIOS)) \
		$(if $(REFERENCE),--reference $(REFERENCE)) $(if $(ANSWERS),--answers $(ANSWERS)) $(if $(REFERENCE_ONLY),--reference-only) \
		$(if $(KEEP),--keep $(KEEP))

# The scripts of the attacks through one machine, each slice of which is measured: `make fuzz-slices SECONDS=600 SEED=7 LONGEST_MS=50 ATTACKS="lenses"`.
fuzz-slices: $(READY)
	$(BIN)/python -m tests.fuzz.slices --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(if $(LONGEST_MS),--longest-ms $(LONGEST_MS)) $(ATTACKS)

# Every order of events of four validators, one of them a traitor, over some views of Simplex: `make explore-consensus VIEWS=2 START=2 SECONDS=600`.
explore-consensus: $(READY)
	$(BIN)/python -m tests.plugins.consensus_bft.explore $(if $(VIEWS),--views $(VIEWS)) $(if $(START),--start $(START)) $(if $(filter-out file,$(origin SECONDS)),--seconds $(SECONDS))

# Consensus algorithms on schedules that are made up by chance: `make fuzz-consensus ALGORITHM=dag RUNS=1000`; a failing one is made small and kept in build/.
fuzz-consensus: $(READY)
	mkdir -p build && $(BIN)/fluvial lab consensus fuzz --algorithm $(or $(ALGORITHM),simplex) --runs $(or $(RUNS),100) --keep build

# Attacks on real peers while honest flows run and the attacked one is killed once, with a report that grows, also in a file:
# `make attacks SECONDS=60 SEED=7 REPORT=attacks.txt ATTACKS="folds pauses"`.
attacks: $(READY)
	$(BIN)/python -m tests.attacks $(if $(filter-out file,$(origin SECONDS)),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) \
	  $(if $(REPORT),--report $(REPORT)) $(ATTACKS)

# Hostile services in WebAssembly on a real peer whose other services are called meanwhile: `make attacks-wasm SECONDS=60 SEED=7 ATTACKS="loops disk"`.
attacks-wasm: $(READY)
	$(BIN)/python -m tests.attacks.wasm $(if $(filter-out file,$(origin SECONDS)),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) $(ATTACKS)

# Liars of the DHT, each a process, among honest ones, floods of records and keys, crowds: `make attacks-dht HONEST=5 LIARS=4 ATTACKS="stale keys"`; some ten minutes.
attacks-dht: $(READY)
	$(BIN)/python -m tests.attacks.dht $(if $(HONEST),--honest $(HONEST)) $(if $(LIARS),--liars $(LIARS)) $(if $(RECORDS),--records $(RECORDS)) \
		$(if $(KEYS),--keys $(KEYS)) $(ATTACKS)

# Random Aqua programs next to the reference compiler: `make fuzz-aqua REFERENCE=DIR SEEDS=1-100`; DIR is the folder of a harness for it.
fuzz-aqua: $(READY)
	$(BIN)/python -m tests.fuzz.aqua --reference $(REFERENCE) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(KEEP),--keep $(KEEP))

# Mutated component files, compiled and called in limited processes: `make fuzz-components COUNT=5000 SEED=7 SECONDS=1800`.
fuzz-components: $(READY)
	$(BIN)/python -m tests.fuzz.components $(if $(COUNT),--count $(COUNT)) $(if $(SEED),--seed $(SEED)) $(if $(filter-out file,$(origin SECONDS)),--seconds $(SECONDS))

# How many functions of a folder of Aqua programs compile: `make aqua-realworld DIR=…`, one folder in it for each repository.
aqua-realworld: $(READY)
	$(BIN)/python -m tests.fuzz.aqua_realworld $(DIR) $(if $(PACKAGES),--packages $(PACKAGES)) $(if $(VERBOSE),--verbose)

# Newest versions of everything, without the names of any host.
constraints: $(READY)
	{ grep -v '^-c' requirements-dev.txt; grep -v '^-c' requirements-toolchains.txt; echo uv; } | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
		--no-header --no-annotate --no-emit-index-url - | grep -v '^-e' > constraints.new
	mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find core plugins tests -name __pycache__ -type d -prune -exec rm -rf {} +
