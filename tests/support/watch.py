"""A mode that keeps what torch's operators return."""

from torch.utils._python_dispatch import TorchDispatchMode


class Watch(TorchDispatchMode):
    """Keep what each operator returns."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Keep it."""
        self.seen.append(func(*args, **(kwargs or {})))
        return self.seen[-1]
