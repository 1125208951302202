"""Small random models with every kind of dropout: tests train them, benchmarks time them."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import torch
from torch import nn

HEADS: Final = 8
LAYERS: Final = 2
TOKENS: Final = 512  # that a language model knows
COLOURS: Final = 3
CLASSES: Final = 10

Batch = tuple[torch.Tensor, ...]


class Model(NamedTuple):
    """A model in training, and what it takes."""

    module: nn.Module  # returns one tensor
    draw: Callable[[int], Batch]  # a random batch of so many samples


class First(nn.Module):
    """The first of what a module returns: an LSTM's output without its states, say."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: torch.Tensor) -> Any:
        """Return the first result."""
        return self.module(*inputs)[0]


def encoder(p: float, width: int = 256, length: int = 128) -> Model:
    """Return torch's Transformer encoder: attention drops, and three modules in every layer."""
    layer = nn.TransformerEncoderLayer(width, HEADS, 4 * width, p, batch_first=True)
    module = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
    return Model(module, lambda batch: (torch.randn(batch, length, width),))


def transformer(p: float, width: int = 128, length: int = 64) -> Model:
    """Return torch's whole Transformer: the decoder attends to itself and to the encoder's output."""
    module = nn.Transformer(width, HEADS, LAYERS, LAYERS, 4 * width, p, batch_first=True)
    return Model(module, lambda batch: (torch.randn(batch, length, width), torch.randn(batch, length, width)))


def gpt2(p: float, width: int = 128, length: int = 128) -> Model:
    """Return Hugging Face's GPT-2: with dropout of embeddings, attention and residual branches."""
    from transformers import GPT2Config, GPT2Model  # takes seconds, for which other models need not wait

    config = GPT2Config(
        vocab_size=TOKENS,
        n_positions=length,
        n_embd=width,
        n_layer=LAYERS,
        n_head=HEADS,
        embd_pdrop=p,
        attn_pdrop=p,
        resid_pdrop=p,
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
    )
    return Model(First(GPT2Model(config).train()), lambda batch: (torch.randint(TOKENS, (batch, length)),))


def lstm(p: float, width: int = 256, length: int = 64) -> Model:
    """Return an LSTM of two layers: the first one's output is dropped, within one operator of torch's."""
    module = First(nn.LSTM(width, width, LAYERS, dropout=p, batch_first=True))
    return Model(module, lambda batch: (torch.randn(batch, length, width),))


def _block(inputs: int, outputs: int, p: float) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(), nn.Dropout2d(p), nn.MaxPool2d(2)]


def cnn(p: float, width: int = 32, length: int = 32) -> Model:
    """Return a convolutional classifier of square images: whole channels are dropped, and elements in its head."""
    features = 2 * width * (length // 4) ** 2
    head = [nn.Flatten(), nn.Dropout(p), nn.Linear(features, 4 * width), nn.ReLU(), nn.Dropout(p)]
    module = nn.Sequential(
        *_block(COLOURS, width, p), *_block(width, 2 * width, p), *head, nn.Linear(4 * width, CLASSES)
    )
    return Model(module, lambda batch: (torch.randn(batch, COLOURS, length, length),))


MODELS: Final[Mapping[str, Callable[..., Model]]] = {
    "encoder": encoder,
    "transformer": transformer,
    "gpt2": gpt2,
    "lstm": lstm,
    "cnn": cnn,
}
