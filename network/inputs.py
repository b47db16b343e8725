"""A user's inputs and labels, from files or as arrays, conformed to what a network reads."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from intaglio.network.arrays import Array, StoredArray, open_arrays
from intaglio.network.errors import NetworkError
from intaglio.network.files import shown
from intaglio.network.graph import Tensor, TensorType

_LABELS = "labels"
_SHOWN = 8
"""Names of arrays that an error line lists."""


class HasShape(Protocol):
    """An array, or what will be one."""

    @property
    def shape(self) -> tuple[int, ...]: ...


class HasInputs(Protocol):
    """A network, or what says as much of its inputs: their names, and the tensor of each."""

    @property
    def name(self) -> str: ...
    @property
    def inputs(self) -> tuple[str, ...]: ...
    @property
    def tensors(self) -> Mapping[str, Tensor]: ...


def read_array(path: str | os.PathLike[str]) -> Array:
    """The one array in the .npy, .npz or IDX file `path`; the content says which it is.

    Raises
    ------
    NetworkError
        Where the file is missing, damaged, of another format, or an .npz of several arrays.
    """
    arrays = open_arrays(path)
    if len(arrays) != 1:
        raise NetworkError(
            f"{shown(path)}: holds {len(arrays)} arrays ({_listed(arrays)}) where one is wanted; leave one"
        )
    (opened,) = arrays.values()
    return opened().read()


def load_inputs(
    path: str | os.PathLike[str], network: HasInputs, limit: int | None = None
) -> dict[str, npt.NDArray[np.integer]]:
    """The inputs in the file `path`, by the names of the network's input tensors.

    Each array is (inferences, *the tensor's shape), of the tensor's own numpy type. Integers go in as they are;
    uint8 into an int8 tensor whose zero point is -128 loses 128; floats become ``round(x / scale) + zero_point``,
    clamped to the type: the quotient is float32's, its ties go away from zero, as TFLite's QUANTIZE has it. An image
    tensor (H, W, 1) takes (N, H, W) too.
    An .npz holds an array a tensor under the tensor's name (and may hold ``labels``); where the network has one
    input, the file's only other array may have any name.

    Parameters
    ----------
    path
        A .npy, .npz or IDX file, the latter gzipped or not.
    network
        Whose inputs they are.
    limit
        How many inferences to take from the front; all, where None.

    Raises
    ------
    NetworkError
        One line that says where, what, and what to do: no such file, damage, an absent or unknown name, a wrong
        shape (both are named), an integer out of range (its value and index), a float that is not finite or whose
        tensor has no scale, counts that differ, no inference at all.
    """
    where = shown(path)
    if limit is not None and limit < 1:
        raise NetworkError(f"the limit of inferences must be 1 or more, not {limit}")
    arrays = open_arrays(path)
    stored = {
        name: _Stored.of(arrays[given](), network.tensors[name])
        for name, given in _match(arrays, network, where).items()
    }
    count = check_batch(network, stored, where)
    if limit is not None:
        count = min(count, limit)
    return {name: conform(array.read(count), network.tensors[name], where) for name, array in stored.items()}


def load_labels(path: str | os.PathLike[str], count: int) -> npt.NDArray[np.int64]:
    """The classes of the first `count` inferences, (count,) integers >= 0, from the file `path`.

    An .npz holds them as ``labels`` or as its only array.

    Raises
    ------
    NetworkError
        Where the file is missing or damaged, or holds fewer labels, no integers, or a negative one.
    """
    where = shown(path)
    arrays = open_arrays(path)
    if _LABELS not in arrays and len(arrays) != 1:
        raise NetworkError(f"{where}: has no {_LABELS} among its arrays ({_listed(arrays)}); name it so")
    stored = (arrays[_LABELS] if _LABELS in arrays else next(iter(arrays.values())))()
    shape = stored.shape[:1] if stored.shape[1:] == (1,) else stored.shape
    if len(shape) != 1 or stored.dtype.kind not in "iu":
        raise NetworkError(
            f"{where}: labels must be one integer an inference, not {stored.dtype} of shape {shape}"
        )
    if shape[0] < count:
        raise NetworkError(f"{where}: {shape[0]} labels for {count} inferences; give one an inference")
    labels = stored.read(count).reshape(count)
    bad = (labels < 0) | (labels > 2**31 - 1)
    if bad.any():
        index = int(bad.argmax())
        raise NetworkError(f"{where}: label {index} is {labels[index]}; a label is a class, 0 or more")
    return labels.astype(np.int64)


def check_batch(network: HasInputs, inputs: Mapping[str, HasShape], where: str = "") -> int:
    """How many inferences `inputs`, arrays by the names of the network's input tensors, hold.

    Shapes are looked at, values are not. `where` begins what is said, the network's name unless given.

    Raises
    ------
    NetworkError
        One line: a name that is no input of the network, or one that is missing; an array that is not (inferences,
        *its tensor's shape); different numbers of inferences, or none.
    """
    where = where or f"network {network.name}"
    if set(inputs) != set(network.inputs):
        given = ", ".join(shown(name) for name in sorted(inputs)[:_SHOWN]) or "nothing"
        raise NetworkError(
            f"{where}: the inputs are {', '.join(network.inputs)}, not {given}; name each of them"
        )
    for name in network.inputs:
        shape, wanted = inputs[name].shape, network.tensors[name].shape
        if shape[1:] != wanted or not shape:
            raise NetworkError(_misshapen(where, name, shape, wanted))
    counts = {name: inputs[name].shape[0] for name in network.inputs}
    if len(set(counts.values())) > 1:
        stated = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise NetworkError(
            f"{where}: inputs of different counts ({stated}); the first axis counts inferences"
        )
    for name, count in counts.items():
        if not count:
            raise NetworkError(f"{where}: {name} holds no inference; give at least one")
    return min(counts.values())


def _misshapen(where: str, name: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    return (
        f"{where}: an array of shape {shape} for the input {name}, "
        f"which needs (N, {', '.join(map(str, wanted))}); the first axis counts inferences"
    )


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    listed = ", ".join(shown(name) for name in ordered[:_SHOWN])
    return listed + (", ..." if len(ordered) > _SHOWN else "") if ordered else "none"


def _match(names: Collection[str], network: HasInputs, where: str) -> dict[str, str]:
    """Of each input tensor, the name that its array has in the file, which holds arrays of these `names`."""
    others = [name for name in names if name != _LABELS or name in network.inputs]
    if len(network.inputs) == 1 and len(others) == 1:
        return {network.inputs[0]: others[0]}
    wanted = ", ".join(network.inputs)
    for name in network.inputs:
        if name not in others:
            raise NetworkError(
                f"{where}: has no input {name} (it has {_listed(others)}); give an .npz that names {wanted}"
            )
    for name in others:
        if name not in network.inputs:
            raise NetworkError(
                f"{where}: holds {shown(name)}, no input of the network; its inputs are {wanted}"
            )
    return {name: name for name in network.inputs}


@dataclass(frozen=True)
class _Stored:
    """An array that is still in its file, and the shape that it will have: an image's, with its one channel."""

    array: StoredArray
    shape: tuple[int, ...]

    @classmethod
    def of(cls, array: StoredArray, tensor: Tensor) -> _Stored:
        shape, wanted = array.shape, tensor.shape
        image = len(wanted) == 3 and wanted[2] == 1 and len(shape) == 3 and shape[1:] == wanted[:2]
        return cls(array, (*shape, 1) if image else shape)

    def read(self, count: int) -> Array:
        return self.array.read(count).reshape(count, *self.shape[1:])


def _refuse_at(bad: npt.NDArray[np.bool_], array: Array, tensor: Tensor, where: str, why: str) -> None:
    if bad.any():
        index = tuple(int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape))
        at = ", ".join(map(str, index))
        raise NetworkError(f"{where}: {tensor.name}[{at}] is {array[index]}, {why}")


def conform(array: Array, tensor: Tensor, where: str) -> npt.NDArray[np.integer]:
    """`array`, of any shape, as integers of the tensor's type; see `load_inputs`. Errors begin with `where`."""
    type_ = tensor.type
    if array.dtype.kind == "f":
        return _quantize(array, tensor, where)
    if array.dtype.kind not in "iu":
        what = "truth values" if array.dtype.kind == "b" else str(array.dtype)
        raise NetworkError(f"{where}: {tensor.name} is an array of {what}; give integers of type {type_}")
    if array.dtype == np.uint8 and type_ == TensorType(8, signed=True) and tensor.zero_point == -128:
        return (array.astype(np.int16) - 128).astype(np.int8)
    # Compared in the array's own type: numpy compares a uint64 with a Python integer exactly.
    bad = (array < type_.min) | (array > type_.max)
    _refuse_at(
        bad, array, tensor, where, f"outside {type_.min}...{type_.max} of {type_}; bring it into range"
    )
    return array.astype(type_.dtype)


def _quantize(array: Array, tensor: Tensor, where: str) -> npt.NDArray[np.integer]:
    type_ = tensor.type
    if tensor.scale is None:
        raise NetworkError(
            f"{where}: floats, but the input {tensor.name} states no scale; give integers of type {type_}"
        )
    _refuse_at(~np.isfinite(array), array, tensor, where, "not a finite number; correct the data")
    with np.errstate(over="ignore"):  # an infinite quotient is clamped like any that is out of range
        quotient = (array.astype(np.float32) / np.float32(tensor.scale)).astype(np.float64)
    quantized = np.copysign(np.floor(np.abs(quotient) + 0.5), quotient) + tensor.zero_point
    return np.clip(quantized, type_.min, type_.max).astype(type_.dtype)
