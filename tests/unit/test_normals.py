"""Gaussian noise on the CPU, without torch's layers: the numbers, and the kernels that use them."""

import itertools
import math

import mask_reference
import normal_reference
import numba
import numpy as np
import pytest
from cpu_runs import GUARD, SIZES, STARTS, run, signed
from launches import launch_of

from fastdrop_kernels.cpu import registry
from fastdrop_kernels.cpu.gaussian import transform

NAMES = ["gaussian_dropout", "gaussian_noise"]
# Relative, at most: of 16 bits after float32's own, of float64 together with the reference's.
ROUNDING = {
    "float16": 2.0**-11 + 2.0**-24,
    "bfloat16": 2.0**-8 + 2.0**-24,
    "float32": 2.0**-24,
    "float64": 2.0**-52,
}
TINY = {"float16": 2.0**-25, "bfloat16": 2.0**-134, "float32": 2.0**-150, "float64": 0.0}  # half the smallest number
Z_ERROR = 4e-7  # relative
STD_ERROR = 2.0**-23  # of the standard deviation and of its product with z, in float32
N = 1 << 20
SIGMAS = 5.0

dtypes = pytest.mark.parametrize("dtype", ROUNDING)
names = pytest.mark.parametrize("name", NAMES)


@numba.njit(error_model="numpy")
def transformed(words, logarithms):
    transform(words, logarithms)


def normals(words) -> np.ndarray:
    words = np.array(words, np.uint32)
    transformed(words, np.empty(words.size, np.float32))
    return words.view(np.float32)


def all_sizes() -> np.ndarray:
    """Return words whose numbers are of all sizes: both tails, the middle, and what lies between."""
    rng = np.random.default_rng(0)
    from_the_end = (2.0 ** rng.uniform(0, 31, 100_000)).astype(np.int64)
    ends = np.arange(2000)
    lower = np.concatenate(
        [ends, from_the_end, 2**31 - 1 - ends, 2**31 - from_the_end, rng.integers(0, 2**31, 100_000)]
    )
    return np.concatenate([lower, 2**32 - 1 - lower]).astype(np.uint32)


def test_normals_are_the_quantiles_to_five_units_in_the_last_place():
    words = all_sizes()
    z, exact = normals(words), normal_reference.of_words(words)
    error = np.abs(z - exact)
    assert (error <= Z_ERROR * np.abs(exact)).all()
    assert (error <= 5 * np.spacing(np.abs(exact).astype(np.float32))).all()


def test_normals_of_the_four_words_at_the_ends_and_in_the_middle():
    z = normals([0, 2**31 - 1, 2**31, 2**32 - 1])
    assert z[0] == -z[3] and z[1] == -z[2]
    assert abs(0.5 * math.erfc(z[3] / math.sqrt(2)) * 2**33 - 1) < 40 * Z_ERROR  # z**2 times as much as of z
    assert abs(z[2] / (math.sqrt(2 * math.pi) * 2**-33) - 1) < 2e-7


def test_the_other_tail_is_the_same():
    words = all_sizes()
    assert np.array_equal(normals(~words), -normals(words))


def as_numbers(array: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return array.astype(np.float64)


def values(dtype: str, n: int, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal(n) * 2.0 ** np.random.default_rng(seed).uniform(-9, 9, n)
    if dtype == "bfloat16":
        return (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return x.astype(dtype)


def assert_noisy(name: str, dtype: str, x, y, p: float, start: int, seed: int, offset: int) -> None:
    """Check y to what z, the product with it and the last rounding may be off."""
    z = normal_reference.normals(np.arange(start, start + x.size, dtype=np.uint64), seed, offset)
    wanted, noise = normal_reference.noisy(name, as_numbers(x, dtype), p, z)
    of_noise = (Z_ERROR + (STD_ERROR if dtype != "float64" else 2.0**-51)) * noise
    bound = of_noise + ROUNDING[dtype] * (np.abs(wanted) + of_noise) + TINY[dtype]
    assert (np.abs(as_numbers(y, dtype) - wanted) <= bound).all()


@dtypes
@names
@pytest.mark.sampled(2)
def test_every_length_from_every_start(name, dtype):
    for n, start in itertools.product(SIZES, STARTS):
        x = values(dtype, n, n)
        y, seed, offset = np.full_like(x, 77), 2**64 - 1 - n, 2**63 + start
        run(name, dtype, x, y, start=start, seed=seed, offset=offset, p=0.3)
        assert_noisy(name, dtype, x, y, 0.3, start, seed, offset)


@dtypes
@names
@pytest.mark.parametrize("p", [1e-9, 1e-3, 0.5, 0.99, 1 - 2**-20])
def test_every_strength(name, dtype, p):
    x = values(dtype, 3000, 1)
    y = np.empty_like(x)
    with np.errstate(over="ignore"):
        run(name, dtype, x, y, p=p)
        finite = np.isfinite(as_numbers(y, dtype))
    assert finite.all() or (dtype == "float16" and p > 0.9)
    if finite.all():
        assert_noisy(name, dtype, x, y, p, 0, 7, 0)


@pytest.mark.parametrize("std", [0.0, 3.0, 1e10])
def test_a_standard_deviation_may_exceed_1(std):
    x = values("float32", 3000, 1)
    y = np.empty_like(x)
    run("gaussian_noise", "float32", x, y, p=std)
    assert_noisy("gaussian_noise", "float32", x, y, std, 0, 7, 0)
    assert (std == 0) == np.array_equal(x, y)


def test_float64_takes_float32s_numbers():
    y32, y64 = np.empty(5000, np.float32), np.empty(5000, np.float64)
    run("gaussian_noise", "float32", np.zeros_like(y32), y32, p=1.0)
    run("gaussian_noise", "float64", np.zeros_like(y64), y64, p=1.0)
    assert np.array_equal(y32, y64)
    words = normal_reference.words(np.arange(5000), 7)
    assert np.array_equal(y32, normals(words))


@dtypes
@names
def test_parts_of_a_stream_make_the_whole(name, dtype):
    x = values(dtype, 10_000, 4)
    whole, parts = np.empty_like(x), np.empty_like(x)
    run(name, dtype, x, whole, start=13)
    cuts = [0, 1, 2, 3, 9, 130, 1030, 4096, 9999, 10_000]
    for a, b in zip(cuts, cuts[1:], strict=False):
        run(name, dtype, x[a:b], parts[a:b], start=13 + a)
    assert whole.tobytes() == parts.tobytes()


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_shares_of_the_blocks_make_the_whole(threads):
    """As `launch.share` does: every thread gets the same arguments, and blocks of its own."""
    x = values("float32", 9000, 5)
    whole, shares, start = np.empty_like(x), np.zeros_like(x), 1000
    run("gaussian_dropout", "float32", x, whole, start=start, offset=3)
    p = np.array([0.1]).view(np.uint64)[0]
    arguments = np.array(launch_of(x.ctypes.data, shares.ctypes.data, start, x.size, 7, 3, p), np.uint64)
    kernel = registry.compiled("gaussian_dropout", "float32").ctypes
    bounds = np.linspace(0, -(-(start + x.size) // 1024), threads + 1).astype(int)
    for first, last in zip(bounds, bounds[1:], strict=False):
        kernel(arguments.ctypes.data_as(kernel.argtypes[0]), int(first), int(last))
    assert np.array_equal(whole, shares)


@dtypes
@pytest.mark.parametrize("shift", [0, 1, 3, 4, 20, 63])
def test_every_alignment_in_place_and_nothing_written_beside_it(dtype, shift):
    x = values(dtype, 1500, shift)
    wanted = np.empty_like(x)
    run("gaussian_dropout", dtype, x, wanted, start=3)
    memory = np.full(x.nbytes + 128, GUARD, np.uint8)
    y = memory[shift : shift + x.nbytes].view(x.dtype)
    y[:] = x
    run("gaussian_dropout", dtype, y, y, start=3)
    assert y.tobytes() == wanted.tobytes()
    assert (memory[:shift] == GUARD).all() and (memory[shift + x.nbytes :] == GUARD).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@names
def test_special_values(name, dtype):
    x = np.tile(np.array([np.nan, np.inf, -np.inf, 0.0, -0.0]).astype(dtype), 300)
    y = np.empty_like(x)
    run(name, dtype, x, y, p=0.3)  # 1 + std z < 0 needs z < -1.5
    z = normal_reference.normals(np.arange(x.size), 7)
    with np.errstate(invalid="ignore"):
        wanted, _ = normal_reference.noisy(name, x.astype(np.float64), 0.3, z)
    special = ~np.isfinite(x)
    assert np.array_equal(y[special], wanted[special], equal_nan=True)
    if name == "gaussian_dropout":
        assert (y[x == 0] == 0).all()


@pytest.fixture(scope="module")
def z() -> np.ndarray:
    y = np.zeros(N)
    run("gaussian_noise", "float64", y, y, seed=2024, p=1.0)
    return y


@pytest.mark.parametrize(
    ("power", "moment", "variance"), [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)]
)
def test_moments(z, power, moment, variance):
    """Mean, variance, skewness, kurtosis and one more; `variance` is that of z**power."""
    assert abs((z**power).mean() - moment) < SIGMAS * math.sqrt(variance / N)


def test_distribution(z):
    """Kolmogorov and Smirnov: the largest distance of the distributions, times sqrt(N), exceeds 2.5 once in 134,000."""
    exact = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in np.sort(z)])
    steps = np.arange(N + 1) / N
    assert max((steps[1:] - exact).max(), (exact - steps[:-1]).max()) * math.sqrt(N) < 2.5


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 5, 8, 16, 32, 128, 1024, 1 << 16])
def test_neighbours_are_independent(z, lag):
    for a, b in ((z, z), (z * z - 1, z * z - 1), (z, z * z - 1)):
        a, b = a[lag:], b[:-lag]
        assert abs((a * b).mean()) < SIGMAS * math.sqrt((a * a).mean() * (b * b).mean() / a.size)


@pytest.mark.parametrize("key", [(2025, 0), (2024, 1), (2024 + 2**32, 0), (2024, 2**32), (0, 2024)])
def test_keys_that_are_close_give_independent_numbers(z, key):
    other = np.zeros(N)
    run("gaussian_noise", "float64", other, other, seed=signed(key[0]), offset=key[1], p=1.0)
    assert abs((z * other).mean()) < SIGMAS / math.sqrt(N)


def test_tails_are_as_often_as_they_should(z):
    for limit in (2.0, 3.0, 4.0):
        expected = N * math.erfc(limit / math.sqrt(2))
        assert abs((np.abs(z) > limit).sum() - expected) < SIGMAS * math.sqrt(expected)


def test_the_reference_takes_random123s_words():
    mask_reference.check_random123()
    words = mask_reference.philox4x32((5, 0, 9, 0), (7, 0))
    assert normal_reference.words(np.arange(20, 24), 7, 9).tolist() == [int(word) for word in words]
