"""torch's operator samples against dlc, where torch is installed; the committed table, wherever the tests run."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parent.parent / "docs" / "opinfo.md"
ROW = re.compile(
    r"\| `(?P<name>[^`]+)` \| (?P<passed>\d+) \| (?P<unsupported>\d*) \| (?P<failed>\d*) "
    r"\| \S+ \| \S+ \| (?P<cpu>[^|]+) \|"
)
HALVES = re.compile(r"\| `(?P<name>[^`]+)` \| (?P<passed>\d+) \| (?P<failed>\d*) \| [\d.]* \|$", re.MULTILINE)


def table() -> dict[str, tuple[int, int, int]]:
    """Samples of each operator that passed, have no form in dlc, and disagreed, as the page has them."""
    found = ROW.finditer(PAGE.read_text(encoding="utf-8"))
    return {m["name"]: (int(m["passed"]), int(m["unsupported"] or 0), int(m["failed"] or 0)) for m in found}


def test_the_committed_table_is_of_many_operators_and_none_disagrees() -> None:
    rows = table()
    assert sum(passed > 0 for passed, _, _ in rows.values()) >= 480
    assert not [name for name, (_, _, failed) in rows.items() if failed]
    assert sum(unsupported for _, unsupported, _ in rows.values()) < sum(passed for passed, _, _ in rows.values()) / 10


def test_none_disagrees_on_the_cpu_backend_or_in_half_precision() -> None:
    text = PAGE.read_text(encoding="utf-8")
    native = [m["cpu"] for m in ROW.finditer(text)]
    assert sum(cell != "-" for cell in native) >= 460
    assert not [cell for cell in native if "disagrees" in cell]
    halves = list(HALVES.finditer(text))
    assert len(halves) >= 440
    assert not [m["name"] for m in halves if m["failed"]]


@pytest.mark.opinfo
@pytest.mark.slow
@pytest.mark.parametrize("name", table())
def test_samples_agree_and_the_table_is_of_now(name: str) -> None:
    pytest.importorskip("torch")
    from opinfo import tables  # noqa: F401  enters the adapters
    from opinfo.registry import ADAPTERS
    from opinfo.running import outcomes

    found = outcomes(name, ADAPTERS[name])
    assert not [o.failure for o in found if o.failure]
    unsupported = sum(bool(o.unsupported) for o in found)
    assert (len(found) - unsupported, unsupported, 0) == table()[name]


@pytest.mark.opinfo
@pytest.mark.slow
def test_every_operator_has_a_line_or_a_reason() -> None:
    pytest.importorskip("torch")
    from opinfo import tables  # noqa: F401
    from opinfo.omitted import reason_of
    from opinfo.registry import ADAPTERS
    from opinfo.running import catalogue

    assert not [n for n in catalogue() if n not in ADAPTERS and reason_of(n) is None]
    assert not [n for n in ADAPTERS if n not in catalogue()]


@pytest.mark.opinfo
@pytest.mark.slow
def test_one_sample_of_each_of_some_operators_agrees_on_the_cpu_backend() -> None:
    pytest.importorskip("torch")
    from opinfo import tables  # noqa: F401
    from opinfo.native import compared_on_cpu
    from opinfo.registry import ADAPTERS

    errors = {name: e for found in compared_on_cpu(list(ADAPTERS)[::16]) for name, e in found.items()}
    assert errors
    assert not [name for name, (_, agrees) in errors.items() if not agrees]
