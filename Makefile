# Every target sets up .venv by itself. PYTHON is the interpreter it is made with.
PYTHON ?= python3
BIN := .venv/bin
export GOMP_SPINCOUNT := 1000

.PHONY: demo test slow check bench bench-audit families zoo transfer-zoo task-zoo gate gate-story promotion scale end-to-end upkeep faults clean

demo: .venv/ready  ## train, register, audit an honest retrain and a cheat
	$(BIN)/python deploy/demo/demo.py

test: .venv/ready check  ## every test but the slow ones, by two processes of one thread each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "not slow"

slow: .venv/ready  ## the same on clusters and with workers that take minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow

check: .venv/ready  ## style, types, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

bench: .venv/bench  ## what explanations cost on this machine, beside the libraries; writes explainers/BENCH.md
	$(BIN)/python tests/bench
	$(BIN)/python tests/bench/alone.py

families: .venv/ready  ## which explainer works on which family of models; writes explainers/FAMILIES.md
	$(BIN)/python tests/explainers/families.py

zoo: .venv/ready  ## error rates of the verdict and of the detectors in use, on models trained here; writes monitoring/ZOO.md
	$(BIN)/python tests/zoo --workers 2

transfer-zoo: .venv/ready  ## the same rates on transfer learning, on which nothing was tuned; writes monitoring/TRANSFER_ZOO.md
	$(BIN)/python tests/zoo/transfer.py --workers 2

task-zoo: .venv/ready  ## verdicts about multi-label, segmentation and detection models that are trained here; writes monitoring/TASK_ZOO.md
	$(BIN)/python tests/task_zoo

gate: .venv/postgres  ## attacks on every setting of the server, latency, changed evidence; writes mlflow_plugin/ATTACKS.md
	$(BIN)/python tests/gate
	$(BIN)/python tests/simulations/mutations.py 10000
	$(BIN)/python tests/simulations/gate_latency.py --page

gate-story: .venv/ready  ## PROMOTION.md's beginning typed as it stands, a server and all
	$(BIN)/python -m pytest -q tests/flows/gate_story.py

promotion: .venv/ready  ## after make demo: refused, audited, promoted, weights swapped, refused
	$(BIN)/python deploy/demo/promotion.py

end-to-end: .venv/postgres  ## compose.yaml's services for real on this machine, from webhook to promotion; writes deploy/END_TO_END.md; needs PostgreSQL
	$(BIN)/python -m pytest -q -s tests/end_to_end/story.py --page deploy/END_TO_END.md

upkeep: .venv/postgres  ## on the same services: backup and restore, nights without a worker, automations, prefect deploy; needs PostgreSQL
	$(BIN)/python -m pytest -q -s tests/end_to_end/upkeep.py

faults: .venv/postgres  ## kill -9, full disks, servers away: what audits survive; writes deploy/FAULTS.md; needs PostgreSQL, root and libfaketime
	$(BIN)/python tests/faults

scale: .venv/ready  ## pace and memory of audits, every engine by one worker and two, 100,000 images; writes deploy/SCALE.md
	$(BIN)/python tests/scale

bench-audit: .venv/bench  ## two versions, 256 photographs, three methods: how long altogether
	$(BIN)/python tests/bench/whole.py

.venv/bench: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	touch $@

.venv/postgres: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,postgres]'
	touch $@

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("attrail needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv .demo .promotion
