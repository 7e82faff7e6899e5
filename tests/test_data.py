"""The digits that come with dlc, how they are resized and split, and the order of minibatches."""

import doctest
import math
from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlc.frontend import data

CLASS_COUNTS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # published with the data set
CLASS_INK = [56415, 57007, 55566, 56151, 56239, 55915, 56336, 54289, 57408, 56392]  # sums of the stored pixels


def both(size):
    (x, y), (xv, yv) = data.digits(size=size)
    return np.concatenate([x, xv]), np.concatenate([y, yv])


def test_shapes_dtypes_and_range():
    (x, y), (xv, yv) = data.digits()
    assert x.shape == (1442, 1, 28, 28) and xv.shape == (355, 1, 28, 28)
    assert x.dtype == xv.dtype == np.float32 and y.dtype == yv.dtype == np.int64
    assert x.min() == xv.min() == 0 and x.max() == xv.max() == 1
    assert all(array.flags.c_contiguous and array.flags.writeable for array in (x, y, xv, yv))


def test_the_published_counts_and_ink_of_every_class():
    x, y = both(size=8)
    assert np.bincount(y).tolist() == CLASS_COUNTS
    assert [16 * float(x[y == digit].sum(dtype=np.float64)) for digit in range(10)] == CLASS_INK


def test_the_first_digit_is_the_first_row_of_the_published_file():
    (x, y), _ = data.digits(size=8, split="file")
    assert (x[0, 0, :2] * 16).tolist() == [[0, 0, 5, 13, 9, 1, 0, 0], [0, 0, 13, 15, 10, 15, 5, 0]]
    assert y[:10].tolist() == list(range(10))


@pytest.mark.parametrize("split", ["mixed", "file"])
def test_the_split_holds_out_a_fifth_of_every_class_and_is_disjoint(split):
    (x, y), (xv, yv) = data.digits(size=8, split=split)
    assert np.bincount(yv).tolist() == [count // 5 for count in CLASS_COUNTS]
    assert np.bincount(y).tolist() == [count - count // 5 for count in CLASS_COUNTS]
    # No two images of the set are equal (the next line), so equal images would be one image in both parts.
    assert len({image.tobytes() for image in np.concatenate([x, xv])}) == 1797
    assert not {image.tobytes() for image in x} & {image.tobytes() for image in xv}


def test_both_parts_keep_the_order_of_the_file_and_the_held_out_come_last_in_their_class():
    file = resources.files("dlc.frontend.datasets") / "digits.npz"
    with file.open("rb") as stream:
        stored = np.load(stream, allow_pickle=False)["images"].astype(np.float32) / 16
    place = {image.tobytes(): index for index, image in enumerate(stored)}
    (x, y), (xv, yv) = data.digits(size=8, split="file")
    trained, held_out = (np.array([place[image.tobytes()] for image in part]) for part in (x, xv))
    assert np.all(np.diff(trained) > 0) and np.all(np.diff(held_out) > 0)
    assert all(trained[y == digit].max() < held_out[yv == digit].min() for digit in range(10))


def test_the_mixed_split_is_the_same_everywhere_and_spreads_over_the_file():
    (_, _), (xv, yv) = data.digits(size=8)
    assert yv[:12].tolist() == [1, 3, 4, 6, 7, 9, 6, 9, 0, 6, 2, 2]
    (_, _), (other, _) = data.digits(size=8, split="file")
    assert len({i.tobytes() for i in xv} & {i.tobytes() for i in other}) < 150
    with pytest.raises(ValueError, match="'mixed' or 'file'"):
        data.digits(split="random")


def test_the_split_does_not_depend_on_the_size():
    (_, y), (_, yv) = data.digits(size=8)
    (_, y3), (_, yv3) = data.digits(size=3)
    assert np.array_equal(y, y3) and np.array_equal(yv, yv3)


def test_every_call_gives_arrays_of_its_own():
    (x, _), _ = data.digits(size=8)
    x[:] = 7
    (again, _), _ = data.digits(size=8)
    assert again.max() == 1


def bilinear_by_loop(image, size):
    """Resize one image pixel by pixel, as the textbook has it; the oracle for the two matrices."""
    side = len(image)
    result = np.empty((size, size))
    for i in range(size):
        for j in range(size):
            row = min(max((i + 0.5) * side / size - 0.5, 0), side - 1)
            column = min(max((j + 0.5) * side / size - 0.5, 0), side - 1)
            top, left = math.floor(row), math.floor(column)
            bottom, right = min(top + 1, side - 1), min(left + 1, side - 1)
            down, across = row - top, column - left
            above = image[top, left] * (1 - across) + image[top, right] * across
            below = image[bottom, left] * (1 - across) + image[bottom, right] * across
            result[i, j] = above * (1 - down) + below * down
    return result


@pytest.mark.parametrize("size", [1, 2, 5, 7, 8, 9, 16, 28, 32])
def test_resizing_equals_a_direct_loop(size):
    (x, _), (xv, _) = data.digits(size=size)
    (small, _), (small_v, _) = data.digits(size=8)
    for large, original in [*zip(x[:5], small[:5], strict=True), *zip(xv[-5:], small_v[-5:], strict=True)]:
        expected = bilinear_by_loop(original[0].astype(np.float64), size)
        np.testing.assert_allclose(large[0], expected, rtol=0, atol=1e-7)


def test_resizing_keeps_a_constant_image_constant():
    for size in (1, 3, 8, 28, 224):
        np.testing.assert_allclose(data._bilinear(8, size).sum(axis=1), 1, rtol=0, atol=1e-14)


@pytest.mark.parametrize("size", [0, -1, 2.5, "28", None, True])
def test_a_bad_size_is_named_with_its_value_and_the_fix(size):
    with pytest.raises(ValueError, match=r"size must be an integer at least 1, not .*size=28"):
        data.digits(size=size)


def test_a_numpy_integer_is_a_size():
    assert data.digits(size=np.int64(4))[1][0].shape == (355, 1, 4, 4)


@given(
    count=st.integers(1, 60),
    batch_size=st.integers(1, 70),
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 2**64 - 1),
    shuffle=st.booleans(),
)
def test_batches_hold_every_sample_once_and_keep_pairs_together(count, batch_size, seed, epoch, shuffle):
    x, y = np.arange(2 * count).reshape(count, 2), np.arange(count)
    parts = list(data.batches(x, y, batch_size, seed=seed, epoch=epoch, shuffle=shuffle))
    assert [len(yb) for _, yb in parts[:-1]] == [batch_size] * (len(parts) - 1)
    assert 1 <= len(parts[-1][1]) <= batch_size
    taken = np.concatenate([yb for _, yb in parts])
    assert sorted(taken.tolist()) == list(range(count))
    assert np.array_equal(np.concatenate([xb for xb, _ in parts]), x[taken])
    if not shuffle:
        assert taken.tolist() == list(range(count))


@given(
    count=st.integers(1, 40),
    batch_size=st.integers(1, 45),
    drop_last=st.booleans(),
    shuffle=st.booleans(),
    data_=st.data(),
)
def test_resuming_equals_going_on(count, batch_size, drop_last, shuffle, data_):
    if drop_last:
        batch_size = min(batch_size, count)
    y = np.arange(count)

    def labels(start):
        parts = data.batches(y, y, batch_size, seed=3, epoch=5, shuffle=shuffle, drop_last=drop_last, start=start)
        return [yb.tolist() for _, yb in parts]

    whole = labels(start=0)
    start = data_.draw(st.integers(0, len(whole)))
    assert labels(start=start) == whole[start:]


def order(seed, epoch, count=100):
    y = np.arange(count)
    return np.concatenate([yb for _, yb in data.batches(y, y, 7, seed=seed, epoch=epoch)]).tolist()


def test_the_order_is_a_function_of_seed_and_epoch():
    assert order(1, 2) == order(1, 2)
    assert len({tuple(order(seed, epoch)) for seed in range(4) for epoch in range(4)}) == 16


def test_the_order_is_the_same_on_every_machine_and_numpy():
    assert order(0, 0, count=12) == [0, 2, 11, 9, 1, 8, 5, 4, 3, 10, 6, 7]
    assert order(42, 7, count=12) == [6, 8, 7, 11, 10, 4, 5, 2, 9, 0, 1, 3]


def test_every_sample_is_first_about_equally_often():
    firsts = np.bincount([order(0, epoch, count=5)[0] for epoch in range(1000)], minlength=5)
    assert firsts.min() > 150 and firsts.max() < 250  # 200 expected, standard deviation 12.6


def test_the_global_random_state_is_neither_read_nor_moved():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    order(0, 0)
    assert np.array_equal(before, np.random.get_state()[1])


def test_drop_last_leaves_the_smaller_batch_out():
    y = np.arange(10)
    assert [len(yb) for _, yb in data.batches(y, y, 4, drop_last=True)] == [4, 4]
    assert [len(yb) for _, yb in data.batches(y, y, 5, drop_last=True)] == [5, 5]


def test_batches_in_order_are_views_and_shuffled_ones_are_copies():
    x, y = np.zeros((6, 2)), np.arange(6)
    assert all(np.shares_memory(xb, x) for xb, _ in data.batches(x, y, 4, shuffle=False))
    assert not any(np.shares_memory(xb, x) for xb, _ in data.batches(x, y, 4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.arange(9)}, r"x holds 10 samples and y holds 9; pass arrays with the same first dimension"),
        ({"x": np.empty(0), "y": np.empty(0)}, r"hold 0 samples; pass at least one"),
        ({"x": 3.0}, r"x has no axis of samples \(it is 0-d\); pass an array"),
        ({"batch_size": 0}, r"batch_size must be an integer at least 1, not 0; pass"),
        ({"batch_size": 2.0}, r"batch_size must be an integer at least 1, not 2.0; pass"),
        ({"seed": -1}, r"seed must be an integer from 0 to 18446744073709551615, not -1; pass"),
        ({"seed": 2**64}, r"seed must be an integer from 0 to"),
        ({"epoch": None}, r"epoch must be an integer from 0 to .*, not None; count epochs from 0"),
        ({"start": 4}, r"start must be an integer from 0 to 3, not 4; pass the number of batches"),
        ({"start": -1}, r"start must be an integer from 0 to 3, not -1"),
        ({"batch_size": 11, "drop_last": True}, r"leaves no batch.*pass drop_last=False or a batch_size of at most 10"),
    ],
)
def test_bad_arguments_raise_at_the_call_and_say_the_fix(change, message):
    arguments = {"x": np.arange(10), "y": np.arange(10), "batch_size": 4} | change
    with pytest.raises(ValueError, match=message):
        data.batches(**arguments)


def test_the_examples_in_the_docstrings_run():
    outcome = doctest.testmod(data)
    assert outcome.attempted > 0 and outcome.failed == 0
