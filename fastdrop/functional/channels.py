"""Dropout of whole channels."""

import warnings

import torch
from torch.overrides import handle_torch_function, has_torch_function_unary

from fastdrop._broadcast import channels_of
from fastdrop._call import call
from fastdrop._checks import check_probability
from fastdrop._members import FEATURE_DROPOUT
