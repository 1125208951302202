"""The pages on the stream and the kernels: quoted code is in the sources, and known answers are right."""

import doctest
import json
import pathlib
import re
import textwrap

import mask_reference
import numba
import numpy as np
import pytest
import torch
from cuda_tools import needs_tools
from llvmlite import binding
from machine_code import report

import fastdrop
from fastdrop._keys.arguments import signed64
from fastdrop._keys.seeds import fold_in
from fastdrop_kernels.cpu.gaussian import transform
from fastdrop_kernels.cuda import cubins, toolchain
from fastdrop_kernels.cuda.disassembly import parse

ROOT = pathlib.Path(__file__).parents[2]
STREAM, CPU, GPU = (ROOT / "docs" / name for name in ("mask-stream.md", "cpu-kernels.md", "gpu-kernels.md"))
EXCERPT = re.compile(r"<!-- from (\S+) -->\n```python title=.*?\n(.*?)```", re.DOTALL)
EXCERPTS = [
    pytest.param(source, text, id=f"{page.stem}-{source}-{i}")
    for page in (CPU, GPU)
    for i, (source, text) in enumerate(EXCERPT.findall(page.read_text(encoding="utf-8")))
]
ARCHITECTURES = [(7, 5), (8, 0), (9, 0), (10, 0)]
VECTORS = json.loads(pathlib.Path(mask_reference.__file__).with_name("mask_vectors.json").read_text())
BLOCKS = range(0, 65536 * 1024, 1024)


@numba.njit(error_model="numpy")
def transformed(words, logarithms):
    transform(words, logarithms)


@pytest.mark.parametrize(("source", "excerpt"), EXCERPTS)
def test_an_excerpt_is_in_its_source(source, excerpt):
    quoted = textwrap.dedent(excerpt).splitlines()
    lines = (ROOT / source).read_text(encoding="utf-8").splitlines()
    windows = ("\n".join(lines[i : i + len(quoted)]) for i in range(len(lines)))
    assert any(textwrap.dedent(window).splitlines() == quoted for window in windows)


@pytest.mark.parametrize("page", [CPU, GPU], ids=lambda page: page.stem)
def test_every_file_that_a_page_explains_is_quoted(page):
    text = page.read_text(encoding="utf-8")
    headings = "".join(re.findall(r"^#+ .*$", text, flags=re.MULTILINE))
    quoted = {pathlib.Path(source).name for source, _ in EXCERPT.findall(text)}
    assert set(re.findall(r"`(\w+\.py)`", headings)) <= quoted
    assert len(quoted) >= 8


def test_the_trap_that_a_reader_can_try_is_one(capsys):
    if not binding.get_host_cpu_features().get("avx2"):
        pytest.skip("the page shows instructions of x86 CPUs with AVX2")
    (code,) = re.findall(r"```python\n(import numba.*?)```", CPU.read_text(encoding="utf-8"), flags=re.DOTALL)
    exec(compile(code, CPU.name, "exec"), {})
    signed, unsigned = (line.split() for line in capsys.readouterr().out.splitlines())
    assert signed == ["int64", "0"]
    assert unsigned[0] == "uint64" and int(unsigned[1]) > 0


def rows(text: str, header: str) -> list[list[str]]:
    """Return the cells of the table whose header begins so, without backquotes."""
    table = text.split(f"\n{header} ", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def number(cell: str) -> int:
    power, _, less = cell.partition(" - ")
    return 2 ** int(power.partition("^")[2]) - int(less) if "^" in power else int(cell, 0)


@pytest.fixture(scope="module")
def page() -> dict[str, object]:
    """Return what the page on the stream defines: its implementation."""
    names: dict[str, object] = {"torch": torch}
    text = STREAM.read_text(encoding="utf-8")
    test = doctest.DocTestParser().get_doctest(text, names, STREAM.name, str(STREAM), 0)
    test.examples = [example for example in test.examples if example.source.startswith(("LOW", "def", "import"))]
    assert doctest.DocTestRunner().run(test, clear_globs=False).failed == 0
    return test.globs


def test_pages_philox_gives_random123s_words(page):
    answers = rows(STREAM.read_text(encoding="utf-8"), "| counter |")
    assert len(answers) == 3
    for cells in answers:
        counter, key, answer = (tuple(int(word, 16) for word in cell.split()) for cell in cells)
        assert page["philox4x32"](counter, key) == answer
        assert tuple(int(word) for word in mask_reference.philox4x32(counter, key)) == answer


def test_known_answers_are_those_of_the_reference_the_page_and_a_kernel(page):
    answers = rows(STREAM.read_text(encoding="utf-8"), "| seed |")
    assert len(answers) == len(VECTORS) > 0
    for cells, case in zip(answers, VECTORS, strict=True):
        seed, offset, start = map(number, cells[:3])
        p, threshold, draws = float(cells[3]), int(cells[4], 16), [int(draw, 16) for draw in cells[5].split()]
        dropped = np.unpackbits(np.frombuffer(bytes.fromhex(cells[6]), np.uint8), bitorder="little").astype(bool)
        assert [seed, offset, start, p] == [case[name] for name in ("seed", "offset", "start", "p")]
        assert threshold == case["threshold_at_start"] == page["threshold"](start, p, seed, offset)
        elements = range(start, start + 64)
        assert draws == case["draws_first_64"][:8] == [page["draw"](e, seed, offset) for e in elements[:8]]
        assert np.flatnonzero(dropped).tolist() == case["dropped_in_first_64"]
        assert dropped.tolist() == [page["is_dropped"](e, p, seed, offset) for e in elements]
        mask = ~fastdrop.dropout_mask(65536, p, seed=seed, offset=offset, start=start).numpy()
        assert mask[:64].tolist() == dropped.tolist()
        assert int(cells[7]) == case["dropped_count_in_first_65536"] == mask.sum()


def test_normal_numbers_have_the_bits_of_the_page():
    answers = rows(STREAM.read_text(encoding="utf-8"), "| word |")
    words = np.array([int(word, 16) for word, _, _ in answers], np.uint32)
    transformed(words, np.empty(words.size, np.float32))
    assert [f"{bits:#010x}" for bits in words] == [bits for _, _, bits in answers]
    np.testing.assert_allclose(words.view(np.float32), [float(z) for _, z, _ in answers], rtol=1e-4)


@pytest.mark.parametrize(
    ("p", "thresholds"),
    [(0.0, {0}), (2**-33, {0}), (2**-33 * (1 + 2**-52), {0, 1}), (2**-16, {1}), (1 - 2**-16, {65535}),
     (1 - 2**-16 + 2**-32, {65535, 65536}), (1 - 2**-33, {65536}), (1.0, {65536})],
)  # fmt: skip
def test_edges_of_p_are_where_the_page_says(page, p, thresholds):
    assert {page["threshold"](e, p, 3, 2**64 - 1) for e in BLOCKS} == thresholds
    start = next(e for e in BLOCKS if page["threshold"](e, p, 3, 0) == max(thresholds))
    mask = fastdrop.dropout_mask(64, p, seed=3, start=start)
    assert mask.tolist() == [not page["is_dropped"](e, p, 3) for e in range(start, start + 64)]


def test_mean_threshold_is_exact(page):
    assert sum(page["threshold"](e, 0.1, 5, 6) for e in BLOCKS) == round(0.1 * 2**32)


def test_a_seed_in_a_tensor_is_read_as_64_bits():
    masks = [fastdrop.dropout_mask(64, 0.5, seed=seed) for seed in (torch.tensor(-1), 2**64 - 1)]
    assert torch.equal(*masks)
    with pytest.raises(ValueError, match="seed"):
        fastdrop.dropout_mask(64, 0.5, seed=-1)


def test_derived_keys_are_those_of_the_page():
    (factor,) = re.findall(
        r"fold_in\(seed, i\)  =  \(seed \+ (0x\w+) \* i\) % 2\*\*64", STREAM.read_text(encoding="utf-8")
    )
    for seed, i in [(5, 0), (5, 3), (2**64 - 1, 12345)]:
        assert fold_in(seed, i) == (seed + int(factor, 16) * i) % 2**64
        in_tensor = fold_in(torch.tensor(signed64(seed, "seed")), i)
        assert int(in_tensor) % 2**64 == fold_in(seed, i)


@needs_tools
def test_the_machine_code_that_the_page_counts_and_shows():
    text = GPU.read_text(encoding="utf-8")
    counted = rows(text, "| part |")
    main = parse(toolchain.disassemble(cubins.cubin("dropout", "bfloat16", (9, 0)))).main
    assert sum(int(count) for _, count, _ in counted) == len(main)
    assert all(float(each) == pytest.approx(int(count) / 8, abs=0.051) for _, count, each in counted)
    listing = text.split("```text\n", 1)[1].split("```", 1)[0]
    shown = re.findall(r"^[A-Z][\w.]+", listing, flags=re.MULTILINE)
    assert shown and set(shown) <= {instruction.opcode for instruction in main}


@needs_tools
@pytest.mark.slow
def test_the_table_of_instructions_and_registers():
    table = rows(GPU.read_text(encoding="utf-8"), "| | bytes")
    counted = {cells[0]: cells[2:] for cells in table}
    assert set(counted) == {"float16", "bfloat16", "float32", "float64", "bool mask"}
    for dtype, cells in counted.items():
        kernel = ("mask", "bool") if dtype == "bool mask" else ("dropout", dtype)
        told = [report(*kernel, capability) for capability in ARCHITECTURES]
        assert [f"{each.instructions_per_element:.1f}" for each in told] == cells[:4]
        assert str(told[2].resources.registers) == cells[4]


def test_the_figures_of_the_page_on_the_cpu_are_those_of_the_files():
    text, results = CPU.read_text(encoding="utf-8"), ROOT / "bench" / "results"
    measured = json.loads((results / "cpu-epyc-zen4-2-cores-float32.json").read_text())["results"]
    ratios = {each["size"]: each["forward"]["ratios"] for each in measured if each["threads"] == 1}
    for size, *cells in rows(text, "| elements |"):
        names = ("native / fastdrop", "fastdrop_into / copy", "fastdrop / clone")
        figures = [ratios[int(size.replace(",", ""))][name] for name in names]
        assert [float(cell.removesuffix(" x")) for cell in cells] == pytest.approx(figures, rel=0.03)
    measured = json.loads((results / "cold-epyc-zen3-2-cores.json").read_text())["kernels"]
    seconds = {(each["name"], each["dtype"]): each["timings"] for each in measured if each["p"] == 0.1}
    for name, *cells in rows(text, "| kernel |"):
        timings = [seconds[name, dtype] for dtype in ("float32", "bfloat16")]
        figures = [each["fastdrop"]["seconds"] / each["copy"]["seconds"] for each in timings]
        assert [float(cell) for cell in cells] == pytest.approx(figures, abs=0.006)
