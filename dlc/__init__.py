"""dlc: a deep-learning compiler in Python.

Write a network, get an explicit graph, transform it with passes, run it as native code, draw it:

>>> import dlc
>>> a, b, c = dlc.input("a"), dlc.input("b"), dlc.input("c")
>>> J = 3 * (a + b * c)
>>> graph = dlc.graph(inputs=[a, b, c], outputs=[J, *dlc.grad(J, [a, b, c])])
>>> [float(v) for v in dlc.compile(graph, backend="reference")(5.0, 3.0, 2.0)]
[33.0, 3.0, 6.0, 9.0]
"""

import os as _os
from importlib import import_module as _import_module
from importlib.util import find_spec as _find_spec
from types import ModuleType as _Module
from typing import Any as _Any

# frontend/, passes/ and backends/ stand at the top of the repository and are installed as subpackages of dlc. In a
# checkout they are symbolic links in this folder; where a checkout has no links (Windows), find them beside it.
# This comes before any import of a submodule.
if not _os.path.isdir(_os.path.join(_os.path.dirname(__file__), "frontend")):
    __path__.append(_os.path.dirname(_os.path.dirname(_os.path.abspath(__file__))))

__version__ = "0.1.0"

# Each public name and the module that defines it. They are imported when first used, so that `import dlc` is quick.
_SUBMODULES = {
    "data": "dlc.frontend.data",
    "errors": "dlc.errors",
    "nn": "dlc.frontend.nn",
    "onnx": "dlc.frontend.onnx",
    "ops": "dlc.ops",
    "optim": "dlc.frontend.optim",
    "passes": "dlc.passes",
    "render": "dlc.render",  # a package that is also the function
    "testing": "dlc.testing",
}
_NAMES = {
    "dlc.backends.cpu.threads": ("get_threads", "set_threads"),
    "dlc.compiler": ("Program", "compile", "evaluate"),
    "dlc.ir": ("Graph",),
    "dlc.ops": ("Tensor",),
    "dlc.frontend.building": ("grad", "graph", "parameter", "trace", "value_and_grad"),
    "dlc.frontend.step": ("train_step",),
    "dlc.frontend.summary": ("summary",),
    "dlc.frontend.trainer": ("Trainer",),
    "dlc.frontend.weights": ("load", "save"),
    "dlc.passes.derivatives": ("hessian", "hvp", "jacobian", "jvp", "vjp"),
    "dlc.passes.vmap": ("vmap",),
    "dlc.graph_json": ("graph_from_json", "graph_to_json"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> _Any:
    value: _Any
    if name in _SUBMODULES:
        value = _import_module(_SUBMODULES[name])
    elif name in _HOME:
        value = getattr(_import_module(_HOME[name]), name)
    elif not name.startswith("_") and _find_spec(f"dlc.{name}"):  # `from dlc import dtypes` comes here too
        value = _import_module(f"dlc.{name}")
    else:
        ops = _import_module("dlc.ops")
        value = getattr(ops, name, None)
        if name.startswith("_") or value is None or isinstance(value, _Module):
            names = _import_module("dlc.other_names")
            raise AttributeError(f"module 'dlc' has no attribute {name!r}{names.instead(name, names.FUNCTIONS)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    ops = vars(_import_module("dlc.ops"))
    public = (n for n, value in ops.items() if not n.startswith("_") and not isinstance(value, _Module))
    return sorted({*globals(), *_SUBMODULES, *_HOME, *public})
