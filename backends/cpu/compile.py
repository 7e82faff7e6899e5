"""From kernel sources to native addresses: Numba types and lowers, LLVM optimises for this machine, a cache keeps them.

Only the front half of Numba runs, and only for sources that the cache does not hold: bytecode, types, LLVM IR. The
module then goes through one LLVM pipeline with the vectoriser on, and the object code that comes out is loaded by
llvmlite alone.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cache
from typing import Any

from dlc.backends.cpu.cache import ObjectCache, source_key
from dlc.backends.cpu.host import host

ENTRY = "dlc_{}"
_lock = threading.RLock()
_addresses: dict[str, int] = {}
_compiled: set[str] = set()


def compile_kernels(sources: Sequence[str]) -> list[int]:
    """The native address of each kernel: ``void(int64 *bases, int64 *args, int64 begin, int64 end)``.

    Equal sources are one kernel. Compiles what neither this process nor the cache on disk has yet. Thread-safe.
    """
    with _lock:
        store = ObjectCache()
        for source in dict.fromkeys(sources):
            if source in _addresses:
                continue
            key = source_key(source, host())
            entry = ENTRY.format(key[:32])
            image = store.read(key)
            if image is None:
                image = object_code(source, entry)
                _compiled.add(source)
                store.write(key, image)
            _addresses[source] = _load(image, entry)
        return [_addresses[source] for source in sources]


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

    library = binding.JITLibraryBuilder().add_object_img(image).add_current_process().export_symbol(entry)
    tracker = library.link(_engine(), entry)
    address: int = tracker[entry]
    tracker.detach()
    return address


# ---------------------------------------------------------------- compiling


def object_code(source: str, entry: str) -> bytes:
    """The object code of a kernel, with `entry` as its only public symbol."""
    machine = _machine()
    image: bytes = machine.emit_object(_optimised(source, entry, machine))
    return image


def assembly(source: str) -> str:
    """The machine code of a kernel as text, for a reader."""
    machine = _machine()
    text: str = machine.emit_assembly(_optimised(source, ENTRY.format("kernel"), machine))
    return text


def _optimised(source: str, entry: str, machine: Any) -> Any:
    from llvmlite import binding

    from dlc.backends.cpu.lower import lowered

    module = binding.parse_assembly(lowered(source, entry))
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    options = binding.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.loop_interleaving = options.loop_unrolling = True
    options.slp_vectorization = False
    builder = binding.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return module
