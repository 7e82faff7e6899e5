"""From kernel sources to native addresses: Numba types and lowers, LLVM optimises for this machine, a cache keeps them.

Only the front half of Numba runs, and only for sources that the cache does not hold: bytecode, types, LLVM IR. The
module then goes through one LLVM pipeline with the vectoriser on, and the object code that comes out is loaded by
llvmlite alone.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import Any

from dlc.backends.cpu import MICRO_KERNEL
from dlc.backends.cpu.cache import ObjectCache, source_key
from dlc.backends.cpu.host import host
from dlc.backends.cpu.threads import available_cores
from dlc.backends.cpu.workers import Task, Workers, workers_for

_lock = threading.RLock()
_addresses: dict[str, int] = {}
_compiled: set[str] = set()
_libraries = itertools.count()


def compile_kernels(sources: Sequence[str]) -> list[int]:
    """The native address of each kernel: ``void(int64 *bases, int64 *args, int64 begin, int64 end)``.

    Equal sources are one kernel. Compiles what neither this process nor the cache on disk has yet. Thread-safe.
    """
    with _lock:
        _compile_missing([s for s in dict.fromkeys(sources) if s not in _addresses])
        return [_addresses[source] for source in sources]


def _compile_missing(sources: Sequence[str]) -> None:
    """Load what the cache holds, and compile the rest. Only what this process could load goes into the cache."""
    store = ObjectCache()
    keys = {source: source_key(source, host()) for source in sources}
    missing = []
    for source, key in keys.items():
        image = store.read(key)
        if image is not None:
            try:
                _addresses[source] = _load(image, _entry(key))
                continue
            except RuntimeError:
                store.refuse(key, "it cannot be loaded")
        missing.append((source, _entry(key)))
    for (source, entry), image in _images(missing).items():
        try:
            address = _load(image, entry)
        except RuntimeError:  # another process made something else of it
            image = object_code(_lowered(source, entry))
            address = _load(image, entry)
        store.write(keys[source], image)
        _compiled.add(source)
        _addresses[source] = address


def _images(tasks: Sequence[Task]) -> dict[Task, bytes]:
    """The object code of (source, entry). Numba lowers one kernel here while LLVM works on the one before; where there
    are many, processes on other cores take from the other end of the queue."""
    images: dict[Task, bytes] = {}
    if not tasks:
        return images
    queue = deque(sorted(tasks, key=lambda task: len(task[0])))
    workers = Workers(workers_for([source for source, _ in tasks], available_cores()), queue, images.__setitem__)
    under_way: list[tuple[Task, Future[bytes]]] = []
    with ThreadPoolExecutor(1) as llvm:
        try:
            while queue:
                with suppress(IndexError):  # a worker may have taken the last one
                    task = queue.popleft()
                    under_way.append((task, _submitted(llvm, _lowered(*task))))
        except BaseException:
            queue.clear()
            workers.join(patience=0.0)
            raise
        workers.join()
        under_way += [(task, _submitted(llvm, _lowered(*task))) for task in workers.left]
    return images | {task: result.result() for task, result in under_way}


def _submitted(llvm: ThreadPoolExecutor, module: str) -> Future[bytes]:
    """LLVM's work on a module, on another thread where one can start."""
    try:
        return llvm.submit(object_code, module)
    except RuntimeError:
        done: Future[bytes] = Future()
        done.set_result(object_code(module))
        return done


def _entry(key: str) -> str:
    """The public symbol of the kernel with this key."""
    return f"dlc_{key[:32]}"


def compiled() -> int:
    """How many kernels this process has compiled, as opposed to loaded from the cache."""
    return len(_compiled)


# ---------------------------------------------------------------- loading


@cache
def _engine() -> Any:
    from llvmlite import binding

    return binding.create_lljit_compiler(_machine())


def _machine() -> Any:
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    name, features = host()
    target = binding.Target.from_triple(binding.get_process_triple())
    return target.create_target_machine(
        cpu=name, features=features, opt=3, reloc="pic", codemodel="jitdefault", jit=True
    )


def _load(image: bytes, entry: str) -> int:
    """Link object code into this process, for as long as it lives; functions of the C library are the process's own."""
    from llvmlite import binding

    name = f"{entry}.{next(_libraries)}"  # one that could not be linked keeps its name
    library = binding.JITLibraryBuilder().add_object_img(image).add_current_process().export_symbol(entry)
    tracker = library.link(_engine(), name)
    address: int = tracker[entry]
    tracker.detach()
    return address


# ---------------------------------------------------------------- compiling


def _lowered(source: str, entry: str) -> str:
    from dlc.backends.cpu.lower import lowered

    return lowered(source, entry)


def object_code(module: str) -> bytes:
    """The object code of a module of LLVM IR, in which the kernel's entry is the only public symbol."""
    machine = _machine()
    image: bytes = machine.emit_object(_optimised(module, machine))
    return image


def assembly(source: str) -> str:
    """The machine code of a kernel as text, for a reader."""
    machine = _machine()
    text: str = machine.emit_assembly(_optimised(_lowered(source, "kernel"), machine))
    return text


def _optimised(text: str, machine: Any) -> Any:
    from llvmlite import binding

    module = binding.parse_assembly(text)
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    # What level 3 adds, loops of register tiles gain nothing from: they are made of vectors already.
    options = binding.create_pipeline_tuning_options(speed_level=2 if MICRO_KERNEL in text else 3)
    options.loop_vectorization = options.loop_interleaving = options.loop_unrolling = True
    options.slp_vectorization = False
    builder = binding.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return module
