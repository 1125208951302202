"""The compiled stream against published vectors and against the reference's known answers."""

import json
import pathlib

import mask_reference
import numba
import numpy as np
import pytest

import fastdrop
from fastdrop_kernels.cpu.philox import fill
from fastdrop_kernels.stream import block_threshold

ONES = 0xFFFFFFFF
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
RANDOM123 = [  # philox4x32 7: counter, key, answer, from Random123's kat_vectors
    ((0, 0, 0, 0), (0, 0), (0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48)),
    ((ONES,) * 4, (ONES, ONES), (0x5207DDC2, 0x45165E59, 0x4D8EE751, 0x8C52F662)),
    (PI, (0xA4093822, 0x299F31D0), (0x4DFCCABA, 0x190A87F0, 0xC47362BA, 0xB6B5242A)),
]
VECTORS = json.loads(pathlib.Path(mask_reference.__file__).with_name("mask_vectors.json").read_text())

compiled_fill = numba.njit(fill)
compiled_threshold = numba.njit(block_threshold)


def draws(first_counter: int, counters: int, seed: int, offset: int) -> np.ndarray:
    """Counter by counter: `fill` wants those of one call to share their upper half, and one case crosses 2**32."""
    words = np.zeros((counters, 2), np.uint64)
    for i in range(counters):
        compiled_fill(words[i], *(np.uint64(v) for v in (first_counter + i, 1, seed, offset)))
    return words.ravel().view(np.uint16)


@pytest.mark.parametrize(("counter", "key", "answer"), RANDOM123)
def test_fill_gives_random123s_words(counter, key, answer):
    c0, c1, c2, c3 = counter
    got = draws(c0 | c1 << 32, 1, key[0] | key[1] << 32, c2 | c3 << 32).view(np.uint32)
    assert tuple(int(word) for word in got) == answer


def test_reference_gives_random123s_words():
    mask_reference.check_random123()


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: f"seed{case['seed']}-start{case['start']}")
def test_known_answers(case):
    seed, offset, start, p = case["seed"], case["offset"], case["start"], case["p"]
    first = start // 8
    assert draws(first, 9, seed, offset)[start - 8 * first :][:64].tolist() == case["draws_first_64"]
    p32 = round(p * 2**32)
    threshold = compiled_threshold(*(np.uint64(v) for v in (start // 1024, p32, seed, offset)))
    assert threshold == case["threshold_at_start"]
    mask = fastdrop.dropout_mask(65536, p, seed=seed, offset=offset, start=start)
    assert np.flatnonzero(~mask[:64].numpy()).tolist() == case["dropped_in_first_64"]
    assert int((~mask).sum()) == case["dropped_count_in_first_65536"]
