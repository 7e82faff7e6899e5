"""The names of torch's catalogue that have no line in the tables, by the reason."""

from __future__ import annotations

from fnmatch import fnmatchcase

OMITTED: dict[str, tuple[str, ...]] = {
    "complex numbers": (
        "view_as_real", "view_as_complex", "complex", "imag", "polar", "cdouble", "cfloat", "chalf", "fft.*fft*",
        "stft", "istft", "nn.functional.silu/complex",
    ),
    "random numbers: torch's are others": (
        "cauchy", "exponential", "geometric", "log_normal", "normal*", "uniform", "randn*", "rand_like", "randint*",
        "multinomial", "bernoulli", "nn.functional.fractional_max_pool*", "native_dropout_backward",
        "nn.functional.multi_head_attention_forward",
    ),
    "values that nobody set": ("empty*", "new_empty*", "resize_*"),
    "decompositions and solutions of linear systems": (
        "cholesky*", "geqrf", "lu", "lu_*", "ormqr", "qr", "triangular_solve", "svd*", "pca_lowrank", "pinverse",
        "logdet", "matrix_exp", "norm/nuc", "linalg.*",
    ),
    "special functions": (
        "i0", "igamma*", "mvlgamma/*", "polygamma/*", "digamma", "erfinv", "lgamma", "frexp", "special.*",
        "signal.windows.kaiser",
    ),
    "greatest common divisors": ("lcm", "gcd"),
    "a shape that depends on the values": ("unique*", "nonzero_static", "item"),
    "counting into bins, medians and quantiles": (
        "histogram*", "histc", "median", "nanmedian", "quantile", "nanquantile", "mode", "masked.median",
    ),
    "sparse tensors": ("sparse.*", "to_sparse"),
    "a way of torch's to store, compile or test": (
        "as_strided*", "broadcast_shapes", "jiterator_*", "hash_tensor", "bmm/triton_optimized",
        "nn.functional.batch_norm/without_cudnn", "torch._scaled_mm*", "torch.ops.aten._flash*", "torch.ops.aten._eff*",
        "_chunk_cat", "_unsafe_masked_index*", "_segment_reduce/*", "max_pool2d_with_indices_backward",
        "_batch_norm_with_update",
    ),
    "half-precision results": ("bfloat16", "half"),
}  # fmt: skip


def reason_of(name: str) -> str | None:
    """Why `name` has no line; the first reason that fits."""
    return next((r for r, names in OMITTED.items() if any(fnmatchcase(name, n) for n in names)), None)
