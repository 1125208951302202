"""fastdrop on a real GPU: the same masks as on the CPU, and all that only torch with CUDA can show."""

import threading

import oracle
import pytest
import torch
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import fastdrop
from fastdrop._devices import cuda
from fastdrop.functional import dropout

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and a torch that is built with CUDA"),
]

DEVICE = torch.device("cuda")
SIZES = [1, 7, 8, 9, 255, 1000, 1025, 4096, 100_003, 1 << 20]
SEED, OFFSET = 2**64 - 12345, 2**63 + 9


@pytest.mark.parametrize("dtype", oracle.FLOATS)
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("p", [1e-6, 0.1, 0.5, 1 - 2**-17, 1.0])
def test_forward_and_backward_are_the_cpus(dtype, n, p):
    x, grad_output = torch.randn(2, n).to(dtype)
    on_gpu, on_cpu = x.to(DEVICE).requires_grad_(), x.requires_grad_()
    y = dropout(on_gpu, p, seed=SEED, offset=OFFSET)
    wanted = dropout(on_cpu, p, seed=SEED, offset=OFFSET)
    oracle.assert_same_bits(y.cpu(), wanted)
    (grad,) = torch.autograd.grad(y, on_gpu, grad_output.to(DEVICE))
    oracle.assert_same_bits(grad.cpu(), *torch.autograd.grad(wanted, on_cpu, grad_output))


def test_it_is_our_kernel_that_runs():
    dropout(torch.ones(8, device=DEVICE), 0.5)
    assert ("dropout", "float32", torch.cuda.current_device()) in cuda._loaded


@pytest.mark.parametrize("dtype", oracle.FLOATS)
@pytest.mark.parametrize("shift", [1, 2, 3, 5])
def test_views_that_no_vector_access_fits(dtype, shift):
    memory = torch.randn(100_000).to(dtype)
    oracle.assert_same_bits(dropout(memory.to(DEVICE)[shift:], 0.3, seed=1).cpu(), dropout(memory[shift:], 0.3, seed=1))


def test_layouts():
    whole = torch.randn(6, 5, 7, 4)
    for view in (
        lambda x: x.transpose(0, 2),
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x[:, 1:, ::2],
        lambda x: x[:1].expand(3, 5, 7, 4),
    ):
        on_gpu, on_cpu = view(whole.to(DEVICE)).requires_grad_(), view(whole).requires_grad_()
        oracle.assert_same_bits(dropout(on_gpu, 0.4, seed=5).cpu(), dropout(on_cpu, 0.4, seed=5))
        gradients = [torch.autograd.grad(dropout(x, 0.4, seed=5).sum(), x)[0].cpu() for x in (on_gpu, on_cpu)]
        oracle.assert_same_bits(*gradients)


def test_in_place():
    x = torch.randn(5000)
    on_gpu = x.to(DEVICE)
    address = on_gpu.data_ptr()
    assert dropout(on_gpu, 0.5, inplace=True, seed=3) is on_gpu
    assert on_gpu.data_ptr() == address
    oracle.assert_same_bits(on_gpu.cpu(), dropout(x, 0.5, seed=3))
    leaf = torch.randn(8, device=DEVICE, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf Variable"):
        dropout(leaf, 0.5, inplace=True)


@pytest.mark.parametrize("start", [0, 5, 2**33 + 1, 2**50])
def test_masks(start):
    mask = fastdrop.dropout_mask((33, 1000), 0.3, seed=SEED, start=start, device=DEVICE)
    assert mask.is_cuda
    assert torch.equal(mask.cpu(), fastdrop.dropout_mask((33, 1000), 0.3, seed=SEED, start=start))


def test_more_than_2_to_the_31_elements():
    n, end = 2**31 + 100_000, 300_000
    mask = fastdrop.dropout_mask(n, 0.3, seed=1, device=DEVICE)
    assert torch.equal(mask[-end:].cpu(), fastdrop.dropout_mask(end, 0.3, seed=1, start=n - end))
    x = torch.ones(n, dtype=torch.float16, device=DEVICE)
    y = dropout(x, 0.3, seed=1)
    assert torch.equal(y != 0, mask)


def test_manual_seed_reproduces():
    x = torch.ones(1000, device=DEVICE)
    torch.cuda.manual_seed(5)
    one, other = dropout(x, 0.5), dropout(x, 0.5)
    assert not torch.equal(one, other)
    torch.manual_seed(5)  # seeds all devices
    assert torch.equal(dropout(x, 0.5), one)
    state = torch.cuda.get_rng_state()
    another = dropout(x, 0.5)
    torch.cuda.set_rng_state(state)
    assert torch.equal(dropout(x, 0.5), another)
    with torch.random.fork_rng(devices=[torch.cuda.current_device()]):
        dropout(x, 0.5)
    before = torch.cuda.get_rng_state()
    dropout(x, 0.5, seed=1)
    assert torch.equal(torch.cuda.get_rng_state(), before), "a key advances no generator"


def test_generators():
    x = torch.ones(1000, device=DEVICE)
    first, second = (dropout(x, 0.5, generator=torch.Generator(DEVICE).manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    of_cpu = [dropout(x.to(device), 0.5, generator=torch.Generator().manual_seed(3)) for device in (DEVICE, "cpu")]
    assert torch.equal(of_cpu[0].cpu(), of_cpu[1])
    on_cpu = dropout(x.cpu(), 0.5, generator=torch.Generator(DEVICE).manual_seed(3))
    assert torch.equal(on_cpu, first.cpu())


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpoints_repeat_their_masks(use_reentrant):
    x = torch.ones(1000, device=DEVICE, requires_grad=True)
    y = checkpoint(lambda x: dropout(x * 1, 0.5), x, use_reentrant=use_reentrant)
    y.sum().backward()
    assert torch.equal(x.grad, y)


def test_no_call_waits_for_the_gpu():
    x, seed = torch.ones(1000, device=DEVICE, requires_grad=True), torch.tensor([7], device=DEVICE)
    dropout(x, 0.5, seed=seed).sum().backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(2):
            keyed, drawn = dropout(x, 0.5, seed=seed), dropout(x, 0.5)
            torch.autograd.grad(keyed.sum() + drawn.sum(), x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(keyed.cpu(), dropout(torch.ones(1000), 0.5, seed=7))


def test_a_seed_tensor_counts_as_it_was():
    x, seed = torch.ones(1000, device=DEVICE, requires_grad=True), torch.tensor([7], device=DEVICE)
    y = dropout(x, 0.5, seed=seed)
    seed.add_(1)
    y.sum().backward()
    assert torch.equal(x.grad, y)
    assert torch.equal(y.cpu(), dropout(torch.ones(1000), 0.5, seed=7))


def test_every_replay_of_a_graph_draws_a_new_mask_that_its_backward_uses():
    layer = fastdrop.Dropout(0.5)
    x = torch.ones(4096, device=DEVICE, requires_grad=True)
    fastdrop.warmup(device=DEVICE)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        layer(x).sum().backward()
    side.synchronize()
    x.grad = None
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = layer(layer(x))
        (grad,) = torch.autograd.grad(y, x, torch.ones_like(y))
    masks = []
    for _ in range(5):
        graph.replay()
        assert torch.equal(grad, y)
        assert 0.2 < (y != 0).float().mean() < 0.3, "two masks of one half each"
        masks.append(y != 0)
    assert len({tuple(mask.tolist()) for mask in masks}) == 5
    torch.cuda.manual_seed(1)
    graph.replay()
    first = y.clone()
    torch.cuda.manual_seed(1)
    graph.replay()
    assert torch.equal(y, first)


def test_streams_and_threads():
    x = torch.ones(1 << 20)
    wanted = dropout(x, 0.5, seed=1)
    results = []

    def work() -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            leaf = x.to(DEVICE).requires_grad_()
            y = dropout(leaf, 0.5, seed=1)
            y.sum().backward()
            results.append((y.detach().cpu(), leaf.grad.cpu()))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(torch.equal(got, wanted) for pair in results for got in pair)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_a_device_that_is_not_the_current_one():
    x = torch.ones(1000)
    with torch.cuda.device(0):
        y = dropout(x.to("cuda:1").requires_grad_(), 0.5, seed=1)
        y.sum().backward()
        assert torch.cuda.current_device() == 0
    assert torch.equal(y.cpu(), dropout(x, 0.5, seed=1))


def test_torch_func_and_double_backward():
    x = torch.randn(40, dtype=torch.float64, device=DEVICE)
    torch.autograd.gradgradcheck(lambda x: dropout(x, 0.5, seed=1) ** 2, x.clone().requires_grad_())
    rows = torch.ones(4, 1000, device=DEVICE)
    same = torch.vmap(lambda x: dropout(x, 0.5), randomness="same")(rows)
    different = torch.vmap(lambda x: dropout(x, 0.5), randomness="different")(rows)
    assert torch.equal(same[0], same[3])
    assert not torch.equal(different[0], different[3])
    y, tangent = torch.func.jvp(lambda x: dropout(x, 0.5, seed=2), (rows,), (rows,))
    assert torch.equal(y, tangent)


def test_whoever_watches_sees_the_same_mask():
    x = torch.ones(1000, device=DEVICE, requires_grad=True)
    with FlopCounterMode(display=False):
        y = dropout(x, 0.5, seed=4)
        y.sum().backward()
    assert torch.equal(y, dropout(x, 0.5, seed=4))
    assert torch.equal(x.grad, y)


@pytest.mark.parametrize("dtype", oracle.FLOATS)
def test_nothing_is_kept_for_the_backward(dtype):
    x = torch.ones(1 << 20, dtype=dtype, device=DEVICE, requires_grad=True)
    dropout(x, 0.5)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    y = dropout(x, 0.5)
    assert torch.cuda.memory_allocated() - before == y.nbytes


def test_autocast_and_inference_mode():
    x = torch.ones(1000, device=DEVICE)
    with torch.autocast("cuda", torch.bfloat16):
        assert dropout(x, 0.5).dtype is torch.float32
    with torch.inference_mode():
        assert dropout(x, 0.5, seed=1).is_inference()


def test_install_reaches_cuda_tensors():
    x = torch.full((4096,), torch.inf, device=DEVICE)
    native = torch.nn.functional.dropout
    assert native(x, 0.5).isnan().any()
    with fastdrop.accelerated():
        torch.manual_seed(1)
        y = native(x, 0.5)
        assert not y.isnan().any()  # a dropped infinity is 0 with ours
        torch.manual_seed(1)
        assert torch.equal(y, dropout(x, 0.5))
        y, mask = torch.native_dropout(x, 0.5, True)
        assert torch.equal(y != 0, mask)
        with torch.inference_mode():
            assert not native(x, 0.5).isnan().any()
    assert native(x, 0.5).isnan().any()


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_code_has_the_masks_of_eager_code(backend):
    x = torch.randn(3000, device=DEVICE, requires_grad=True)
    compiled = torch.compile(lambda x: dropout(x, 0.3, seed=SEED, offset=3), fullgraph=True, backend=backend)
    y = compiled(x)
    oracle.assert_same_bits(y.detach().cpu(), dropout(x.detach().cpu(), 0.3, seed=SEED, offset=3))
    grad_output = torch.randn_like(x)
    (grad,) = torch.autograd.grad(y, x, grad_output)
    oracle.assert_same_bits(grad.cpu(), dropout(grad_output.cpu(), 0.3, seed=SEED, offset=3))


def test_compiled_cuda_graphs_draw_a_new_mask_at_every_replay():
    x = torch.ones(4096, device=DEVICE)
    with fastdrop.accelerated():
        fastdrop.warmup([torch.float32], device=DEVICE)
        compiled = torch.compile(lambda x: torch.nn.functional.dropout(x, 0.5), fullgraph=True, mode="reduce-overhead")
        masks = [compiled(x).clone() != 0 for _ in range(6)]
    for i, mask in enumerate(masks):
        assert 1800 < int(mask.sum()) < 2300
        assert not any(torch.equal(mask, other) for other in masks[:i])


def test_training_steps_of_an_encoder_with_install():
    torch.manual_seed(0)
    model = torch.nn.TransformerEncoderLayer(64, 4, 128, 0.2, batch_first=True, device=DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    x, losses = torch.randn(8, 32, 64, device=DEVICE), []
    with fastdrop.accelerated():
        for _ in range(30):
            optimizer.zero_grad()
            loss = (model(x) - x).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
