"""A simulated accelerator: tensors that live elsewhere than in main memory, with no GPU and no compiler.

torch lets a program bring a device of its own ("PrivateUse1"). Here it is Python: a `DeviceTensor` says that
it lives on `DEVICE` and keeps its numbers in a plain tensor behind it. Every operation on it comes through
`__torch_dispatch__`, which does what the same operation does on a GPU as far as places go, then works out the
numbers on the CPU. So code runs unchanged, and

- an operation that mixes a tensor of the CPU with one of the device fails, as on CUDA; allowed are what CUDA
  allows: copies, indices on the CPU, and single numbers (no axes) in element-wise operations;
- what would read the device's memory from the CPU fails (`numpy`), and so does everything that only knows how
  to do that; `cpu`, `item` and `tolist` copy first, as ever;
- float64 is refused, as on Apple's GPUs, and so are means over cells that are no whole number of pixels;
- a tensor of more than `DeviceTensor.most_bytes` bytes does not fit: `torch.OutOfMemoryError`;
- gradients work: autograd sits above all this. Random numbers are the CPU's, so runs can be compared.

What it cannot tell: whether a GPU has a kernel for an operation in a precision, how its sums round, how long
anything takes, and what asynchronous work hides. The branches for `device.type == "cuda"` are not taken.

Registering a device cannot be undone: it stays for the rest of the process.
"""

from __future__ import annotations

from functools import cache, partial

import torch
from torch.utils import _pytree as pytree
from torch.utils import backend_registration

DEVICE = torch.device("privateuseone")
"""As `choose_compute` gives one: without a number, while tensors are on number 0. Its type is "simulated"."""

_aten = torch.ops.aten
_COPIES = frozenset({_aten.copy_.default, _aten._to_copy.default, _aten._copy_from.default})
# `torch.tensor` copies past `__torch_dispatch__`; torch's own `arange` begins with an empty tensor.
_MAKERS = (_aten._to_copy.default, _aten.arange.default, _aten.arange.start, _aten.arange.start_step)
_INDEXING = frozenset({_aten.index, _aten.index_put, _aten.index_put_, _aten._index_put_impl_})


class DeviceTensor(torch.Tensor):
    """A tensor on the simulated device; `inside` holds its numbers and shares memory where views do."""

    most_bytes = 1 << 40

    @staticmethod
    def __new__(cls, inside):
        if inside.dtype == torch.float64:
            raise TypeError("the simulated device has no float64, as Apple's GPUs")
        size = inside.untyped_storage().nbytes()  # of a view no more than there was
        if size > cls.most_bytes:
            raise torch.OutOfMemoryError(f"simulated device out of memory. Tried to allocate {size} bytes")
        outside = torch.Tensor._make_wrapper_subclass(
            cls,
            inside.shape,
            strides=inside.stride(),
            storage_offset=inside.storage_offset(),
            dtype=inside.dtype,
            device=torch.device(DEVICE.type, 0),
        )
        outside.inside = inside
        return outside

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return _run(operation, args, kwargs or {})

    @property
    def data(self):
        return self.detach()

    @data.setter
    def data(self, other):  # how `Module.to` changes a precision in place
        torch.Tensor.data.__set__(self, other)
        self.inside = other.inside

    def tolist(self):
        return self.cpu().tolist()

    def numpy(self, *, force=False):
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() first.")

    def __array__(self, *_, **__):
        return self.numpy()

    def untyped_storage(self):  # its address and size may be asked for, as a GPU's
        return self.inside.untyped_storage()

    def __reduce_ex__(self, protocol):  # in a file it is what `map_location="cpu"` reads
        return self.cpu().__reduce_ex__(protocol)

    def __repr__(self, **_):
        return f"DeviceTensor({self.inside})"


@cache
def register():
    """Make `DEVICE` known to torch; what is returned keeps it so.

    Raises:
        NotImplementedError: if this torch takes no device in Python.
    """
    if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
        raise NotImplementedError(f"torch {torch.__version__} takes no device written in Python")
    # Only a device with a name of its own is the one that autograd asks for streams, before CUDA.
    backend_registration._setup_privateuseone_for_python_backend("simulated", _Module())
    # Without a tensor of the device among its arguments an operation does not reach `__torch_dispatch__`:
    # what makes tensors arrives here.
    others, own = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    others.fallback(lambda operation, *args, **kwargs: _run(operation, args, kwargs), "PrivateUse1")
    for operation in _MAKERS:
        own.impl(operation, partial(_make, operation), "PrivateUse1")
    return others, own


def _make(operation, *args, **kwargs):
    return _run(operation, args, kwargs)


class _Module:
    """What torch asks of `torch.simulated`."""

    def is_available(self):
        return True

    def is_initialized(self):
        return True

    def device_count(self):
        return 1

    def current_device(self):
        return 0

    def _is_in_bad_fork(self):
        return False

    def manual_seed_all(self, seed):
        """Nothing to seed: random numbers are the CPU's."""

    def get_amp_supported_dtype(self):
        return [torch.bfloat16, torch.float16]


def _run(operation, args, kwargs):
    """Do an operation for the device: places checked here, numbers from the CPU."""
    _check_places(operation, args, kwargs)
    if operation is _aten._adaptive_avg_pool2d.default:
        _check_cells(args[0].shape[-2:], args[1])
    target = kwargs.get("device")
    if target is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    given = [one for one in pytree.tree_leaves((args, kwargs)) if isinstance(one, DeviceTensor)]
    args, kwargs = pytree.tree_map_only(DeviceTensor, lambda one: one.inside, (args, kwargs))
    found = operation(*args, **kwargs)
    for one in given:
        if one.shape != one.inside.shape or one.stride() != one.inside.stride():
            raise NotImplementedError(f"{operation} changes a shape in place")
    if target is not None and torch.device(target).type == "cpu":
        return found
    known = {id(one.inside): one for one in given}  # what was changed in place is given back itself
    host = {id(one) for one in pytree.tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)} - set(
        known
    )

    def outside(one):
        if id(one) in host:
            return one
        return known[id(one)] if id(one) in known else DeviceTensor(one)

    return pytree.tree_map_only(torch.Tensor, outside, found)


def _check_places(operation, args, kwargs):
    """Return if a GPU could do this with operands that live where these do.

    Raises:
        RuntimeError: if not.
    """
    if operation in _COPIES:
        return
    if operation.overloadpacket in _INDEXING and isinstance(args[0], DeviceTensor):
        args = (args[0], *args[2:])  # CUDA fetches indices from the CPU
    tensors = [one for one in pytree.tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
    host = [one for one in tensors if not isinstance(one, DeviceTensor)]
    if not host or len(host) == len(tensors):
        return
    element_wise = torch.Tag.pointwise in operation.tags or operation.overloadpacket in _INDEXING
    written = operation._schema.is_mutable and not isinstance(args[0], DeviceTensor)
    if not element_wise or written or any(one.ndim for one in host):
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found {DEVICE.type}:0 and cpu ({operation})"
        )


def _check_cells(size, wanted):
    """Return if Apple's GPUs have this mean over cells: https://github.com/pytorch/pytorch/issues/96056.

    Raises:
        RuntimeError: if not.
    """
    pairs = list(zip(size, wanted, strict=True))
    if any(given % cells for given, cells in pairs) and any(cells % given for given, cells in pairs):
        raise RuntimeError(
            f"sizes must divide each other on this device, got {tuple(size)} and {tuple(wanted)}"
        )
