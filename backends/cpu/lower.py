"""A kernel's source as LLVM IR: the front half of Numba, with what vectorisation needs to know about memory."""

from __future__ import annotations

import gc
import linecache
from collections.abc import Iterator
from functools import cache
from typing import Any

from llvmlite import ir
from numba.core import compiler, cpu, funcdesc, lowering, typed_passes, types, untyped_passes
from numba.core import ir as statements
from numba.core.compiler_machinery import LoweringPass, PassManager, register_pass
from numba.core.typing.context import BaseContext

from dlc.backends.cpu import arithmetic, control, tiles  # noqa: F401 - they enter their names
from dlc.backends.cpu.prelude import ACCESS, INDEPENDENT, LOWERING, NAMES, OWN, TYPING, DistinctNode

POINTER = types.CPointer(types.int64)


def lowered(source: str, entry: str) -> str:
    """The LLVM IR of a kernel's source, with a public function `entry` that takes bases, args, begin and end."""
    scope = dict(NAMES)
    filename = f"<{entry}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    collecting = gc.isenabled()
    gc.disable()  # Numba makes many objects, and hardly any cycles: a tenth of its time would go into looking for them
    try:
        exec(compile(source, filename, "exec"), scope)
        flags: Any = compiler.Flags()
        flags.error_model = "numpy"
        flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        flags.enable_ssa = False
        typing, target = contexts()
        takes = (POINTER, POINTER, types.int64, types.int64)
        module, inner = compiler.compile_extra(
            typing, target, scope["kernel"], takes, types.none, flags, {}, pipeline_class=FrontHalf
        )
    finally:
        del linecache.cache[filename]
        if collecting:
            gc.enable()
    function = module.get_global(inner)
    function.linkage = "internal"
    mark_independent_loops(function)
    _add_entry(module, function, entry)
    return str(module)


class KernelTyping(BaseContext):
    """Python's own operators and the prelude, none of NumPy's; an operator on given types is looked up once."""

    def __init__(self) -> None:
        self._resolved: dict[Any, Any] = {}
        super().__init__()

    def load_additional_registries(self) -> None:
        """The prelude, beside the builtin registry."""
        self.install_registry(TYPING)

    def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
        """The signature that a call of `func` has."""
        key = (func, tuple(args))
        if key not in self._resolved:
            found = super().resolve_function_type(func, args, kws)
            if found is None:
                return None
            self._resolved[key] = found
        return self._resolved[key]


class KernelTarget(cpu.CPUContext):
    """Numba's CPU target without its run-time library and the parts of Python that kernels do not use."""

    def init(self) -> None:
        """Called by Numba's constructor."""
        super().init()
        self._sizes: dict[str, int] = {}

    def load_additional_registries(self) -> None:
        """Numbers, tuples and ranges, and the prelude."""
        from numba.cpython import builtins, iterators, numbers, rangeobj, tupleobj  # noqa: F401

        self.install_registry(LOWERING)

    def get_abi_sizeof(self, lty: Any) -> int:
        """The size of an LLVM type, asked once: LLVM answers no two threads at a time."""
        text = str(lty)
        if text not in self._sizes:
            self._sizes[text] = super().get_abi_sizeof(lty)
        return self._sizes[text]

    def pair_first(self, builder: Any, val: Any, ty: Any) -> Any:
        """The value that a loop comes to."""
        return builder.extract_value(val, 0)

    def pair_second(self, builder: Any, val: Any, ty: Any) -> Any:
        """Whether there is one."""
        return builder.extract_value(val, 1)

    def post_lowering(self, module: Any, library: Any) -> None:
        """Nothing to link."""


@cache
def contexts() -> tuple[KernelTyping, KernelTarget]:
    """The contexts that all kernels are compiled in."""
    typing = KernelTyping()
    return typing, KernelTarget(typing)


class FrontHalf(compiler.CompilerBase):
    """Numba's pipeline up to LLVM IR, without the passes for what kernels never use."""

    def define_pipelines(self) -> list[Any]:
        """One list of passes."""
        passes = PassManager("kernel")
        for each in (
            untyped_passes.TranslateByteCode,
            untyped_passes.FixupArgs,
            typed_passes.NopythonTypeInference,
            LowerToModule,
        ):
            passes.add_pass(each, each.__name__)
        passes.finalize()
        return [passes]


@register_pass(mutates_CFG=True, analysis_only=False)
class LowerToModule(LoweringPass):
    """Lower typed Numba IR to an LLVM module, and stop there."""

    _name = "lower_to_module"

    def __init__(self) -> None:
        LoweringPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        """Leaves (module, the function's name) as the compilation's result."""
        context = state.targetctx
        library = Library("kernel", context.codegen())
        described = funcdesc.PythonFunctionDescriptor.from_specialized_function(
            state.func_ir,
            state.typemap,
            state.return_type,
            state.calltypes,
            mangler=context.mangler,
            inline=False,
            noalias=False,
            abi_tags=(),
        )
        with context.push_code_library(library):
            Lowering(context, library, described, state.func_ir, metadata=state.metadata).lower()
        state.cr = (library.module, described.llvm_func_name)
        return True


class Lowering(lowering.Lower):
    """Numba's lowering for values that own nothing, in a third less time: variables begin and end without a word."""

    def lower_block(self, block: Any) -> None:
        """The statements of a block."""
        self.pre_block(block)
        for statement in block.body:
            self.loc = statement.loc
            self.lower_inst(statement)
        self.post_block(block)

    def lower_inst(self, inst: Any) -> None:
        """One statement."""
        if isinstance(inst, statements.Assign):
            target = inst.target.name
            self.storevar(self.lower_assign(self.typeof(target), inst), target)
        elif not isinstance(inst, statements.Del):
            super().lower_inst(inst)

    def alloca(self, name: str, type: Any) -> Any:
        """Space for a variable, which is assigned before it is read."""
        with self.builder.goto_entry_block():
            return self.builder.alloca(self.context.get_value_type(type), name=name)

    def storevar(self, value: Any, name: str, argidx: Any = None) -> None:
        """Assign a value, whatever the variable held."""
        self._alloca_var(name, self.typeof(name))
        if name in self._singly_assigned_vars:
            self._blk_local_varmap[name] = value
        else:
            self.builder.store(value, self.getvar(name))

    def lower_binop(self, resty: Any, expr: Any, op: Any) -> Any:
        """A binary operator: operands that are literals are operands like others."""
        signature = self.fndesc.calltypes[expr]
        operands = [
            self.context.cast(self.builder, self.loadvar(operand.name), self.typeof(operand.name), kind)
            for operand, kind in zip((expr.lhs, expr.rhs), signature.args, strict=True)
        ]
        function = self.context.get_function(self.context.typing_context.resolve_value_type(op), signature)
        result = function(self.builder, operands)
        return self.context.cast(self.builder, result, signature.return_type, resty)


class Library:
    """Stands where Numba keeps compiled code, and only catches the module."""

    def __init__(self, name: str, codegen: Any) -> None:
        self.name = name
        self.codegen = codegen
        self.module: Any = None

    def create_ir_module(self, name: str) -> Any:
        """An empty module."""
        return self.codegen._create_empty_module(name)

    def add_ir_module(self, module: Any) -> None:
        """Catch the finished module."""
        self.module = module


def _add_entry(module: Any, inner: Any, entry: str) -> None:
    """The public function: what the dispatcher calls, without Numba's return status."""
    pointer = inner.args[2].type
    takes = [pointer, pointer, *(a.type for a in inner.args[4:])]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), takes), entry)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    unused = [
        builder.alloca(inner.args[i].type.pointee)
        if not inner.args[i].type.is_opaque
        else ir.Constant(inner.args[i].type, None)
        for i in (0, 1)
    ]
    inner.attributes.add("alwaysinline")
    builder.call(inner, [*unused, *function.args])
    builder.ret_void()


# ---------------------------------------------------------------- loops


def mark_independent_loops(function: Any) -> None:
    """Turn the calls of `independent` and `lanes` into loop metadata: accesses may be reordered across iterations.

    Within an iteration loads and stores keep their order, so that an element may be replaced in place. Iterations that
    hold loops of their own share the kernel's own arrays. A loop over lanes becomes vector code without a loop.
    """
    module = function.module
    groups = {mark: DistinctNode(module, (), of_itself=False) for mark in (ACCESS, OWN)}
    marked = []
    for block in function.blocks:
        for instruction in list(block.instructions):
            if instruction.opname == "call" and instruction.callee.name.startswith(INDEPENDENT):
                block.instructions.remove(instruction)
                marked.append((block, instruction.callee.name[len(INDEPENDENT) :]))
            elif "llvm.access.group" in instruction.metadata:
                mark = instruction.metadata["llvm.access.group"].operands[0].string
                instruction.metadata["llvm.access.group"] = groups[mark]
    if not marked:
        return
    loops = list(_loops(function))
    for block, shape in marked:
        latch, body = min(((latch, body) for latch, body in loops if block in body), key=lambda loop: len(loop[1]))
        innermost = not any(other < body for _, other in loops)
        apart = groups.values() if innermost else [groups[ACCESS]]
        parallel = module.add_metadata([ir.MetaDataString(module, "llvm.loop.parallel_accesses"), *apart])
        properties = (parallel, *_vector_shape(module, "" if _calls(body) else shape))
        latch.terminator.set_metadata("llvm.loop", DistinctNode(module, properties, of_itself=True))


def _vector_shape(module: Any, shape: str) -> list[Any]:
    """What a loop over lanes says of itself: ".<elements of a vector>.<vectors>"; nothing for other loops."""
    if not shape:
        return []
    width, vectors = map(int, shape[1:].split("."))
    asked = {"vectorize.width": width, "interleave.count": vectors}
    named = [
        module.add_metadata([ir.MetaDataString(module, f"llvm.loop.{key}"), ir.Constant(ir.IntType(32), value)])
        for key, value in asked.items()
    ]
    return [*named, module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])]


def _calls(blocks: set[Any]) -> bool:
    """Whether some blocks call functions of the C library, of which there are no vector forms."""
    calls = [i for block in blocks for i in block.instructions if i.opname == "call"]
    return any(not call.callee.name.startswith(("llvm.", INDEPENDENT)) for call in calls)


def _loops(function: Any) -> Iterator[tuple[Any, set[Any]]]:
    """The natural loops: (latch, blocks). Structured code has one latch a loop."""
    before: dict[Any, list[Any]] = {block: [] for block in function.blocks}
    after = {block: _successors(block) for block in function.blocks}
    for block, successors in after.items():
        for successor in successors:
            before[successor].append(block)
    for latch, header in _back_edges(function.entry_basic_block, after):
        body, stack = {header}, [latch]
        while stack:
            block = stack.pop()
            if block not in body:
                body.add(block)
                stack.extend(before[block])
        yield latch, body


def _successors(block: Any) -> list[Any]:
    return [op for op in block.terminator.operands if isinstance(op, ir.Block)]


def _back_edges(entry: Any, after: Any) -> Iterator[tuple[Any, Any]]:
    """Edges to a block on the path of a depth-first walk; in code without goto they close the loops."""
    path: set[Any] = {entry}
    seen: set[Any] = {entry}
    stack = [(entry, iter(after[entry]))]
    while stack:
        block, rest = stack[-1]
        for successor in rest:
            if successor in path:
                yield block, successor
            elif successor not in seen:
                seen.add(successor)
                path.add(successor)
                stack.append((successor, iter(after[successor])))
                break
        else:
            stack.pop()
            path.discard(block)
