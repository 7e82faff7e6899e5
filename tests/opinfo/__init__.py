"""The samples of torch's operator catalogue (`op_db`), run against dlc: `python -m tests.opinfo`.

torch is needed to run this, and is no dependency of the tests: tests/test_opinfo.py is skipped where it is missing.
"""
