"""The op catalogue: one op, one definition, in one place. The functions here build nodes; nothing is computed."""

from dlc.ops.activations import (
    binary_step,
    celu,
    elu,
    glu,
    hardshrink,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    log_sigmoid,
    mish,
    prelu,
    relu6,
    selu,
    softshrink,
    softsign,
    tanhshrink,
    threshold,
)
from dlc.ops.arithmetic import (
    abs,
    add,
    divide,
    floor_divide,
    masked_multiply,
    maximum,
    minimum,
    multiply,
    negative,
    positive,
    pow,
    remainder,
    sign,
    subtract,
)
from dlc.ops.arranging import (
    chunk,
    count_nonzero,
    moveaxis,
    nonzero,
    repeat,
    roll,
    split,
    tile,
    unstack,
)
from dlc.ops.borders import pad_border
from dlc.ops.broadcasting import broadcast_arrays, broadcast_shapes, result_type
from dlc.ops.call import after, checkpoint, custom_vjp
from dlc.ops.composed import (
    attention,
    dropout,
    gelu,
    layer_norm,
    log_softmax,
    logsumexp,
    mean,
    silu,
    softmax,
    softplus,
    square,
    std,
    var,
)
from dlc.ops.cond import cond
from dlc.ops.contract import matmul
from dlc.ops.convolution import conv2d, conv2d_data_gradient, conv2d_weight_gradient
from dlc.ops.convolution_ranks import conv1d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d
from dlc.ops.cross_entropy import cross_entropy, nll_loss
from dlc.ops.cumulative import (
    cumulative_argmax,
    cumulative_argmin,
    cumulative_max,
    cumulative_min,
    cumulative_prod,
    cumulative_sum,
    diff,
    linear_recurrence,
    logcumsumexp,
)
from dlc.ops.definition import CATALOGUE, Kind, Op
from dlc.ops.deformable import deform_conv2d
from dlc.ops.diagonals import diagonal, diagonal_scatter, eye, matrix_trace, tril, triu
from dlc.ops.elementwise import astype, where
from dlc.ops.fill import (
    arange,
    asarray,
    empty,
    empty_like,
    from_dlpack,
    full,
    full_like,
    iota,
    one_hot,
    ones,
    ones_like,
    size_of,
    zeros,
    zeros_like,
)
from dlc.ops.fourier import dft, stft
from dlc.ops.functions import (
    ceil,
    cos,
    erf,
    exp,
    expm1,
    floor,
    isfinite,
    isnan,
    log,
    log1p,
    relu,
    rsqrt,
    sigmoid,
    sin,
    sqrt,
    tanh,
)
from dlc.ops.gather import take, take_adjoint, take_along_axis
from dlc.ops.grids import gradient, linspace, logspace, meshgrid
from dlc.ops.index import concat, fold, pad, stack
from dlc.ops.indexing import getitem
from dlc.ops.leaves import SEED, STEP, TRAINING, constant, input, item, scalar
from dlc.ops.logic import (
    bitwise_and,
    bitwise_invert,
    bitwise_left_shift,
    bitwise_or,
    bitwise_right_shift,
    bitwise_xor,
    equal,
    greater,
    greater_equal,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    not_equal,
)
from dlc.ops.magnitudes import matrix_norm, vector_norm
from dlc.ops.norms import group_norm, instance_norm, local_response_norm, rms_norm
from dlc.ops.pooling import (
    adaptive_avg_pool,
    adaptive_max_pool,
    avg_pool,
    avg_pool2d,
    global_avg_pool,
    global_max_pool,
    lp_pool,
    max_pool,
    max_pool2d,
    max_unpool,
)
from dlc.ops.powers import exp2, hypot, log2, log10, logaddexp, reciprocal
from dlc.ops.products import cross, einsum, matrix_power, outer, tensordot, vecdot
from dlc.ops.random import bernoulli, counted_draws, normal, permutation, randint, random_bits, uniform
from dlc.ops.reduce import all, any, argmax, argmin, max, min, prod, sum
from dlc.ops.regions import roi_align, roi_pool
from dlc.ops.resizing import pixel_shuffle, resize
from dlc.ops.rounding import clip, copysign, isinf, nextafter, round, signbit, trunc
from dlc.ops.sampling import affine_grid, grid_sample
from dlc.ops.scan import scan
from dlc.ops.scattering import (
    gather_nd,
    index_add,
    index_put,
    index_reduce,
    index_update,
    put,
    put_along_axis,
    scatter_nd,
)
from dlc.ops.signal_windows import (
    bartlett_window,
    blackman_window,
    cosine_window,
    exponential_window,
    gaussian_window,
    general_cosine_window,
    hamming_window,
    hann_window,
    nuttall_window,
)
from dlc.ops.sorting import argsort, isin, searchsorted, sort, topk
from dlc.ops.tensor import Tensor
from dlc.ops.trigonometry import acos, acosh, asin, asinh, atan, atan2, atanh, cosh, sinh, tan
from dlc.ops.view import (
    broadcast_to,
    expand_dims,
    flip,
    matrix_transpose,
    permute_dims,
    reshape,
    slice_,
    squeeze,
    stop_gradient,
    windows,
)
from dlc.ops.while_loop import while_loop
