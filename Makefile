# Each target sets up what it needs and calls Python. A set-up that is up to date takes a tenth of a second.

PYTHON := .venv/bin/python
SETUP  := sh tools/setup.sh
# What is built for simulation is kept in the checkout, so that `clean` is clean.
export INTAGLIO_CACHE ?= $(CURDIR)/build

.PHONY: setup run test verilog sim formal fuzz lint bench driver fpga silicon timing compare against clean

setup:    # the environment alone: venv, pinned packages, Verilator
	@$(SETUP) verilator

run:      # run the embedded networks on simulated hardware
	@$(SETUP) verilator
	@$(PYTHON) -m intaglio demo

test:     # the tests, training's and the proofs' with EXTRAS="train formal"; ARGS="tests/test_x.py -k name" chooses
	@$(SETUP) verilator sim test oracles $(EXTRAS)
	@$(PYTHON) -m pytest $(or $(ARGS),-n auto)

verilog:  # Verilog of the units and of the machine CONFIG=… into build/verilog/
	@$(SETUP)
	@$(PYTHON) -m intaglio generate --units $(if $(CONFIG),--config $(CONFIG)) --output build/verilog

sim:      # the cocotb benches alone: units, engines, bus, system
	@$(SETUP) verilator sim
	@$(PYTHON) -m intaglio.sim

formal:   # prove the units equal to their definitions, and the bus masters inside their regions
	@$(SETUP) formal
	@$(PYTHON) -m formal

fuzz:     # damaged .tflite files, many more than the tests try; ARGS="--seed 7 --count 1000000"
	@$(SETUP) test
	@$(PYTHON) -m tests.fuzz_tflite $(or $(ARGS),--count 100000)

lint:     # format, rules, types, and who imports whom
	@$(SETUP) lint sim test
	@$(PYTHON) -m ruff format --check
	@$(PYTHON) -m ruff check
	@$(PYTHON) -m mypy
	@.venv/bin/lint-imports

bench:    # the figures of docs/, measured
	@$(SETUP) verilator oracles vela
	@$(PYTHON) -m bench
	@$(PYTHON) -m bench emission
	@$(PYTHON) -m bench vela

driver:   # the C driver: its size for RV32IMC, and every network run by it, layer by layer; builds machines, a minute each
	@$(SETUP) verilator soc
	@$(PYTHON) -m bench driver $(ARGS)

fpga:     # what the machine CONFIG=… takes of an ECP5, and its clock; MAP=1: of three families, unplaced; takes minutes
	@$(SETUP) $(if $(MAP),compare,fpga)
	@$(PYTHON) -m bench $(if $(MAP),mapping $(CONFIG),ecp5 $(if $(CONFIG),--config $(CONFIG)))

silicon:  # area by part and longest paths of the machines CONFIG=… with the cell library LIBERTY=…; takes minutes each
	@$(SETUP) compare
	@$(PYTHON) -m bench silicon $(CONFIG) $(if $(LIBERTY),--liberty $(LIBERTY)) $(ARGS)

timing:   # the longest paths of the machine CONFIG=… on an ECP5 before placement; fails above the bar; takes minutes
	@$(SETUP) fpga
	@$(PYTHON) -m bench timing $(if $(CONFIG),--config $(CONFIG))

compare:  # the schemes side by side: accuracy, cycles, transistors, into docs/schemes.md; DATA=folder of MNIST's IDX files
	@$(SETUP) verilator compare
	@$(PYTHON) -m bench compare $(if $(DATA),--data $(DATA)) $(ARGS)

against:  # whether the machines are those of revision REV=…, but for names: netlists and cycles; takes minutes
	@$(SETUP) verilator formal
	@$(PYTHON) -m bench against $(REV) $(ARGS)

clean:
	rm -rf build .venv *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
