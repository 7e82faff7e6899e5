"""The Python blocks of the documents run as printed: each file's blocks, in order, as one program in an empty folder.

A block runs where its fence says exactly ```python; an excerpt that is not to be run is fenced otherwise (```text).
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dlc

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<info>[^`]*)$")


def python_program(markdown):
    """The ```python blocks of a document with each line where it stood, so that a traceback names the right one."""
    program, closing, indent, is_python = [], None, 0, False
    for line in markdown.splitlines():
        fence = FENCE.match(line)
        kept = ""
        if closing is None and fence:
            closing, indent = fence["ticks"], len(fence["indent"])
            is_python = fence["info"].strip() == "python"
        elif closing is not None and line.strip() == closing:
            closing = None
        elif closing is not None and is_python:
            kept = line.removeprefix(" " * indent)
        program.append(kept)
    if closing is not None:
        raise ValueError("a code block is not closed")
    return "\n".join(program) + "\n"


def test_blocks_keep_their_lines_and_other_languages_are_left_out():
    markdown = """\
text
```python
x = 1
```
```sh
ls
```
- item
  ```python
  if x:
      y = x
  ```
```python skip
z
```
"""
    numbered = {n: line for n, line in enumerate(python_program(markdown).splitlines(), start=1) if line}
    assert numbered == {3: "x = 1", 10: "if x:", 11: "    y = x"}


def test_a_block_inside_a_longer_fence_is_text():
    assert not python_program("````text\n```python\nx\n```\n````\n").strip()


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_code_of_a_document_runs(document, tmp_path):
    if not document.exists():
        pytest.skip("not written yet")
    program = python_program(document.read_text(encoding="utf-8"))
    if not program.strip():
        pytest.skip("no Python block")
    script = tmp_path / f"{document.stem}.py"
    script.write_text(program, encoding="utf-8")
    workplace = tmp_path / "work"
    workplace.mkdir()
    # The same dlc that these tests import, be it the checkout or an installed wheel.
    environment = os.environ | {"PYTHONPATH": str(Path(dlc.__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=workplace, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, f"{document.name}, lines as in {script.name}:\n{done.stdout}\n{done.stderr}"
