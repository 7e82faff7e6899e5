"""The CUDA backend where there is no GPU: threads in plain Python, Numba's simulator, and the compiler's output."""

import ctypes
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serial_device import SerialDevice
from test_catalogue import SAMPLED, TOLERANCE, cases, expected, named

import dlc
from dlc import compiler, nn, optim
from dlc.backends.cuda import devices
from dlc.backends.cuda.backend import CudaBackend
from dlc.backends.cuda.compile import compile_entry
from dlc.backends.cuda.entry import COPY_ENTRY, entry_source, launch_shape
from dlc.backends.cuda.executable import CudaExecutable
from dlc.backends.cuda.simulated_names import ADDRESS_NAMES
from dlc.backends.cuda.simulated_names import NAMES as SIMULATED
from dlc.backends.plan import KernelStep
from dlc.errors import IndexOutOfRangeError, UnsupportedError
from dlc.ir import Graph

Array = Any
OPTIMISERS: dict[str, Callable[[], optim.Optimizer]] = {
    "sgd": lambda: optim.SGD(0.1, momentum=0.9), "adam": lambda: optim.Adam(1e-2),
}  # fmt: skip
NETWORKS = {"softmax regression": (6, 3), "mlp": (6, 5, 4, 3), "wide mlp": (3, 37, 8, 3)}
NO_CODE = {"scan", "cond", "while_loop"}
WITH_EXTRA = pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="needs the cuda extra")


class SerialBackend(CudaBackend):
    """The CUDA backend on a device in plain Python."""

    name = "serial"

    def load(self, graph: Graph) -> CudaExecutable:
        return CudaExecutable(graph, SerialDevice())


@pytest.fixture(autouse=True)
def serial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(compiler.BACKENDS, "serial", SerialBackend)


def training(widths: tuple[int, ...], optimizer: optim.Optimizer, backend: str) -> tuple[Any, nn.Module]:
    """A whole training step of dense layers and ReLUs under cross-entropy, and the model."""
    layers = [m for i, o in pairwise(widths) for m in (nn.Linear(i, o), nn.ReLU())][:-1]
    model = nn.Sequential(*layers)
    x, y = dlc.input("x", ("B", widths[0])), dlc.input("y", ("B",), "int64")
    loss = nn.functional.cross_entropy(model(x), y)
    return dlc.train_step(model, [x, y], loss, optimizer, backend=backend), model


def batch(widths: tuple[int, ...], size: int, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((size, widths[0])).astype(np.float32), rng.integers(0, widths[-1], size)


def check_training(
    widths: tuple[int, ...], make: Callable[[], optim.Optimizer], backend: str, sizes: tuple[int, ...] = (7, 7, 40, 1)
) -> Any:
    """Steps of several batch sizes beside the reference; gives the step."""
    step, model = training(widths, make(), backend)
    reference, expected_model = training(widths, make(), "reference")
    for size in sizes:
        x, y = batch(widths, size)
        np.testing.assert_allclose(step(x, y), reference(x, y), rtol=1e-5)
        for (path, p), q in zip(model.named_parameters(), expected_model.parameters(), strict=True):
            np.testing.assert_allclose(p.value, q.value, rtol=1e-5, atol=1e-6, err_msg=path)
    return step


# ---------------------------------------------------------------- threads in plain Python


@pytest.mark.parametrize("optimizer", OPTIMISERS)
@pytest.mark.parametrize("network", NETWORKS)
def test_training_agrees_with_the_reference_and_threads_share_nothing(network: str, optimizer: str) -> None:
    check_training(NETWORKS[network], OPTIMISERS[optimizer], "serial")


def test_a_small_convolutional_network_trains_with_dropout() -> None:
    def step_on(backend: str) -> tuple[Any, nn.Module]:
        model = nn.Sequential(
            nn.Conv2d(1, 2, 3, padding=1, bias=False), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Dropout(0.3), nn.Linear(3),
        )  # fmt: skip
        x, y = dlc.input("x", ("B", 1, 6, 6)), dlc.input("y", ("B",), "int64")
        loss = nn.functional.cross_entropy(model(x), y)
        return dlc.train_step(model, [x, y], loss, optim.AdamW(1e-2), backend=backend, seed=3), model

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, 1, 6, 6)).astype(np.float32), rng.integers(0, 3, 4)
    (step, model), (reference, wanted) = step_on("serial"), step_on("reference")
    for _ in range(2):
        np.testing.assert_allclose(step(x, y), reference(x, y), rtol=1e-5)
    for (path, p), q in zip(model.named_parameters(), wanted.parameters(), strict=True):
        np.testing.assert_allclose(p.value, q.value, rtol=1e-4, atol=1e-5, err_msg=path)


@pytest.mark.parametrize("op", **named(SAMPLED))
def test_ops_agree_with_the_reference_and_threads_share_nothing(op: Any) -> None:
    groups = cases(op, "float32")
    graph = Graph(
        tuple(t.node for case in groups for t in case.inputs), tuple(t.node for case in groups for t in case.outputs)
    )
    if op.name in NO_CODE:
        with pytest.raises(UnsupportedError, match="the serial backend cannot run"):
            dlc.compile(graph, "serial")
        return
    got = dlc.compile(graph, "serial", check=False)(*(a for case in groups for a in case.arrays))
    for value, want in zip(got, expected(op.name, "float32"), strict=True):
        tolerance = TOLERANCE[value.dtype.name] if value.dtype.kind == "f" else 0
        np.testing.assert_allclose(value, want, rtol=tolerance, atol=tolerance)


def test_the_watch_finds_threads_that_share_an_element() -> None:
    device = SerialDevice()
    source = "def kernel(bases, args, begin, end):\n    p0 = pointer_int64(bases, args, 0)\n    p0[0] = begin\n"
    launch = device.entry(entry_source(source))
    table = np.array([2, 0, 1, 0, 6, 2, 1, 0], np.int64)
    status, data, bases = (device.empty(64) for _ in range(3))
    arguments = device.empty(table.nbytes)
    device.upload(np.zeros(8, np.int64), status)
    device.upload(np.array([device.address(status), device.address(data)], np.int64), bases)
    device.upload(table, arguments)
    with pytest.raises(AssertionError, match="share a written element"):
        launch(2, device.address(bases), device.address(arguments), 0)


def test_an_index_out_of_range_stops_the_step_and_leaves_all_state() -> None:
    step, model = training((6, 3), optim.Adam(1e-2), "serial")
    x, y = batch((6, 3), 5)
    step(x, y)
    before = [p.value.copy() for p in model.parameters()]
    with pytest.raises(IndexOutOfRangeError, match=r"index 3 is out of range for an axis of 3") as error:
        step(x, y + 3 * (np.arange(5) == 2) - y * (np.arange(5) == 2))
    assert "test_cuda.py" in str(error.value)
    for p, old in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.value, old)
    assert int(step.step.value) == 1
    step(x, y)
    assert int(step.step.value) == 2


def test_launches_have_a_thread_for_each_task() -> None:
    step, _ = training((6, 5, 3), optim.Adam(0.1), "serial")
    step(*batch((6, 5, 3), 40))
    executable = step.program._executable
    (bound,) = executable._bound.values()
    tasks = [int(launch.args[0]) for launch in bound.launches]
    assert executable.device.launches == [launch_shape(n) for n in tasks]
    assert 40 * 5 in tasks  # the results of the first layer
    several = [s for s in executable.plan.steps if isinstance(s, KernelStep) and len(s.calls) > 1]
    assert several and (6 + 1) * 5 + (5 + 1) * 3 in tasks  # all parameters are updated by one launch
    for n in (*tasks, 1, 32, 33, 128, 129, 10**6):
        blocks, threads = launch_shape(n)
        assert n <= blocks * threads < n + 128 and threads % 32 == 0


def test_a_kernel_stays_within_its_arrays() -> None:
    x = dlc.input("x", ("N",))
    executable = CudaExecutable(dlc.graph([x], [x * 2]), SerialDevice())
    with pytest.raises(IndexError, match="element 3 of 3 float32"):
        bound = executable._bind({"N": 3})
        np.asarray(bound._table)[:] = np.where(bound._table == 3, 4, bound._table)  # four tasks on three elements
        executable([np.ones(3, np.float32)], {"N": 3})


def test_scans_are_refused_by_name() -> None:
    x = dlc.input("x", ("T", 3))
    _, total = dlc.scan(lambda carry, row: (carry + row, carry), dlc.zeros((3,)), x)
    with pytest.raises(UnsupportedError, match=r"cannot run scan .* it has no loops yet"):
        dlc.compile(dlc.graph([x], [total]), "serial")


# ---------------------------------------------------------------- Numba's simulator

SIMULATION = """
import test_cuda
from dlc.backends.cuda import devices
from dlc.backends.cuda.simulated_names import Memory
assert "simulator" in devices.describe()
for network, optimizer in (("softmax regression", "sgd"), ("mlp", "adam")):
    step = test_cuda.check_training(test_cuda.NETWORKS[network], test_cuda.OPTIMISERS[optimizer], "cuda", (3, 3, 5))
assert len(step.program._executable.device.launches) > 40

from numba import cuda
from dlc import compiler
from dlc.backends.cuda.backend import CudaBackend
from dlc.backends.cuda.executable import CudaExecutable

class Gpu(devices.Gpu):  # the code for a GPU, on the simulator's arrays and launches
    def __init__(self):
        self._memory = Memory()
        self._cuda, self._names = cuda, {**self._memory.names(), "cuda": cuda}

    def empty(self, nbytes):
        memory = super().empty(nbytes)
        self._memory.add(memory._ary, nbytes)
        return memory

    def address(self, memory):
        return memory._ary.ctypes.data

class GpuBackend(CudaBackend):
    def load(self, graph):
        return CudaExecutable(graph, Gpu())

compiler.BACKENDS["gpu"] = GpuBackend
test_cuda.check_training((4, 3), test_cuda.OPTIMISERS["adam"], "gpu", (3, 2))
print("agrees")
"""


def test_training_agrees_in_numbas_simulator() -> None:
    pytest.importorskip("numba.cuda", reason="this Numba has no simulator; the cuda extra brings one")
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", SIMULATION], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "agrees" in done.stdout, done.stderr[-3000:]


# ---------------------------------------------------------------- what is missing


def compiled_for_cuda() -> Any:
    x = dlc.input("x", ("N",))
    return dlc.compile(dlc.graph([x], [x * 2]), "cuda")


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "simulated", lambda: False)
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match=re.escape('pip install "dlc[cuda]"')):
        compiled_for_cuda()
    assert "dlc[cuda]" in devices.describe()


def test_without_a_device_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = pytest.importorskip("numba.cuda")
    monkeypatch.setattr(devices, "simulated", lambda: False)
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(cuda, "is_available", lambda: False)
    with pytest.raises(UnsupportedError, match=r"no CUDA device .* NUMBA_ENABLE_CUDASIM=1"):
        compiled_for_cuda()
    assert "no CUDA device" in devices.describe()


# ---------------------------------------------------------------- what the compiler makes of it


def entries(widths: tuple[int, ...], make: Callable[[], optim.Optimizer]) -> Iterator[str]:
    step, _ = training(widths, make(), "serial")
    yield from (entry_source(kernel.source) for kernel in step.program.kernels)


@WITH_EXTRA
@pytest.mark.parametrize("optimizer", OPTIMISERS)
@pytest.mark.parametrize("widths", [(784, 10), (784, 512, 512, 10)])
def test_every_kernel_of_a_training_step_compiles_to_a_cubin(widths: tuple[int, ...], optimizer: str) -> None:
    for source in (*entries(widths, OPTIMISERS[optimizer]), COPY_ENTRY):
        made = compile_entry(source)
        assert ".target sm_90" in made.ptx
        assert made.cubin[:4] == b"\x7fELF" and int.from_bytes(made.cubin[18:20], "little") == 190, "no CUDA object"
        generic = re.findall(r"\b(?:ld|st)\.(?!param|global)\S+", made.ptx)
        assert not generic, f"accesses that ask what they point to: {generic}"
        assert ".extern" not in made.ptx, "a call of something that is not there"
        assert 0 < made.registers <= 64 and made.stack == made.spilled == 0


@WITH_EXTRA
def test_device_and_simulator_offer_the_same_names() -> None:
    from dlc.backends.cuda.device_names import NAMES

    assert set(NAMES) - {"cuda"} == {*SIMULATED, *ADDRESS_NAMES}


UNARY = ("exp", "log", "tanh", "erf", "expm1", "log1p", "sin", "cos", "sqrt", "rsqrt", "floor", "ceil")
OF_FLOATS = (*UNARY, "sigmoid", "relu", "sign", "absolute", "isnan", "isfinite", "maximum", "minimum",
             "masked_multiply", "power", "floor_divide", "remainder", "accumulate")  # fmt: skip
OF_INTEGERS = ("relu", "sign", "absolute", "maximum", "minimum", "accumulate", "lesser", "greater", "invert",
               "floor_divide", "remainder")  # fmt: skip
LIBDEVICE = {**{n: SIMULATED[n] for n in UNARY}, "fabs": abs, "pow": np.power, "fmod": np.fmod,
             "copysign": np.copysign}  # fmt: skip


@WITH_EXTRA
@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "int64", "uint8"])
def test_device_names_compute_what_the_simulator_does(dtype: str) -> None:
    """Each intrinsic's LLVM IR runs on this machine's CPU, on special values, with NumPy in the place of libdevice."""
    kind = np.dtype(dtype)
    info = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind)
    special = (np.nan, np.inf, -np.inf, -0.0, 0.5, -2.5) if kind.kind == "f" else ()
    values = [kind.type(v) for v in (0, 1, 2, 7, info.max, info.min, *special)]
    for text in OF_FLOATS if kind.kind == "f" else OF_INTEGERS:
        if text in ("lesser", "greater") and kind.kind == "u":
            continue  # of signed indices alone
        with on_this_cpu(text, kind) as (run, operands):
            for x in values:
                for y in values if operands == 2 else [x]:
                    with np.errstate(all="ignore"):
                        want = SIMULATED[text](*(x, y)[:operands])
                    np.testing.assert_array_equal(run(*(x, y)[:operands]), want, err_msg=f"{text}({x}, {y})")


class on_this_cpu:
    """An intrinsic of the device as a native function of this machine, and how many operands it takes."""

    def __init__(self, text: str, kind: Any) -> None:
        import inspect

        import llvmlite.binding as llvm
        from llvmlite import ir

        from dlc.backends.cuda.device_names import NAMES, TYPES

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        typing = NAMES[text]._defn
        self.operands = len(inspect.signature(typing).parameters) - 1
        signature, emit = typing(None, *[TYPES[kind.name]] * self.operands)
        floating = {"float32": ir.FloatType(), "float64": ir.DoubleType()}
        element = floating.get(kind.name) or ir.IntType(8 * kind.itemsize)
        module = ir.Module()
        boolean = str(signature.return_type) == "bool"
        result = ir.IntType(8) if boolean else element
        function = ir.Function(module, ir.FunctionType(result, [element] * self.operands), "f")
        b = ir.IRBuilder(function.append_basic_block())
        value = emit(None, b, signature, function.args)
        b.ret(b.zext(value, result) if boolean else value)
        self.native = np.ctypeslib.as_ctypes_type(kind)
        self.callbacks = []
        for f in module.functions:
            if f.name.startswith("__nv_"):
                stand_in = LIBDEVICE[f.name[5:].removesuffix("f" if kind.name == "float32" else "")]
                prototype = ctypes.CFUNCTYPE(self.native, *[self.native] * len(f.args))
                self.callbacks.append(prototype(self._quiet(stand_in, kind.type)))
                llvm.add_symbol(f.name, ctypes.cast(self.callbacks[-1], ctypes.c_void_p).value)
        machine = llvm.Target.from_default_triple().create_target_machine()
        self.engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine)
        self.engine.finalize_object()
        returned = ctypes.c_bool if boolean else self.native
        self.run = ctypes.CFUNCTYPE(returned, *[self.native] * self.operands)(self.engine.get_function_address("f"))

    @staticmethod
    def _quiet(function: Callable[..., Any], convert: Callable[[float], Any]) -> Callable[..., float]:
        def called(*xs: float) -> float:
            with np.errstate(all="ignore"):
                return float(function(*map(convert, xs)))

        return called

    def __enter__(self) -> tuple[Callable[..., Any], int]:
        return (lambda *xs: self.run(*[x.item() for x in xs])), self.operands

    def __exit__(self, *error: object) -> None:
        self.engine.close()
