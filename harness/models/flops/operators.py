"""The work of each operator of a traced graph: fvcore handles for matrix work and for all other work.

Matrix work (linear maps, matrix products, attention) is counted in multiply-adds ("macs"); a bias is the start of its
sum and costs nothing. All other work is counted in element operations ("elementwise"): one for each element that an
operator writes or a reduction reads; five for each element of a softmax (maximum, difference, exponential, sum,
quotient) and of a layer normalisation (mean, difference, variance, scaling, affine map). The two are never added: FLOPs
are matrix work only, so they can be compared with a closed form.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import prod
from typing import Any

MACS, ELEMENTWISE = "macs", "elementwise"
PER_ELEMENT_OF_NORMALISATION = 5

Handle = Callable[[list[Any], list[Any]], "Counter[str]"]


class UnknownShapeError(Exception):
    """The trace does not give the shape of an operator's input, so its work cannot be counted."""


def _shape(value: Any) -> list[int]:
    if not value.isCompleteTensor():
        raise UnknownShapeError(value.node().kind())
    return list(value.type().sizes())


def _macs(count: int) -> Counter[str]:
    return Counter({MACS: count})


def _elementwise(count: int) -> Counter[str]:
    return Counter({ELEMENTWISE: count})


def _product(left: int) -> Handle:
    """Count a matrix product whose left factor is input number `left`: each element of the result is a sum over the
    left factor's last dimension.
    """
    return lambda inputs, outputs: _macs(prod(_shape(outputs[0])) * _shape(inputs[left])[-1])


def _each_written(_: list[Any], outputs: list[Any]) -> Counter[str]:
    shapes = [_shape(output) for output in outputs if output.type().kind() == "TensorType"]
    # Tensors without dimensions are shapes and loop counters of the traced Python code.
    return _elementwise(sum(prod(shape) for shape in shapes if shape))


def _each_read(inputs: list[Any], _: list[Any]) -> Counter[str]:
    return _elementwise(prod(_shape(inputs[0])))


def _normalisation(inputs: list[Any], _: list[Any]) -> Counter[str]:
    return _elementwise(PER_ELEMENT_OF_NORMALISATION * prod(_shape(inputs[0])))


def _attention(inputs: list[Any], _: list[Any]) -> Counter[str]:
    """Count scores q kᵀ and context p v for queries (…, n, d), keys (…, m, d) and values (…, m, e), and as element
    operations scaling, mask and softmax.
    """
    query, key, value = (_shape(tensor) for tensor in inputs[:3])
    scores = prod(query[:-1]) * key[-2]
    masked = len(inputs) > 3 and inputs[3].isCompleteTensor()
    count = _macs(scores * (query[-1] + value[-1]))
    count[ELEMENTWISE] = scores * (1 + masked + PER_ELEMENT_OF_NORMALISATION)
    return count


def _einsum(inputs: list[Any], _: list[Any]) -> Counter[str]:
    equation = str(inputs[0].toIValue())
    shapes = [_shape(tensor) for tensor in inputs[1].node().inputs()]
    return _macs(einsum_macs(equation, shapes))


def einsum_macs(equation: str, shapes: list[list[int]]) -> int:
    """Count the multiply-adds of an einsum over operands of these shapes, contracted from left to right.

    Each step multiplies once for every combination of the labels of its two operands.
    """
    terms, _, result = equation.replace(" ", "").partition("->")
    operands = terms.split(",")
    sizes: dict[str, int] = {}
    labels = []
    for term, shape in zip(operands, shapes, strict=True):
        before, ellipsis, after = term.partition("...")
        hidden = [f"…{i}" for i in range(len(shape) - len(before) - len(after), 0, -1)] if ellipsis else []
        names = [*before, *hidden, *after]
        for name, size in zip(names, shape, strict=True):
            sizes[name] = max(size, sizes.get(name, 1))
        labels.append(set(names))
    if "->" in equation:
        kept = {name for name in sizes if name in result or (name.startswith("…") and "..." in result)}
    else:
        kept = {name for name in sizes if name.startswith("…") or terms.count(name) == 1}
    total, current = 0, labels[0]
    for place in range(1, len(labels)):
        met = current | labels[place]
        total += prod(sizes[name] for name in met)
        current = met & set().union(kept, *labels[place + 1 :])
    return total


def _embedding_bag(inputs: list[Any], _: list[Any]) -> Counter[str]:
    """Count sums of rows (…, d): one element operation per element, or one multiply-add if each row has a weight."""
    count = prod(_shape(inputs[1])) * _shape(inputs[0])[-1]
    return _macs(count) if inputs[6].isCompleteTensor() else _elementwise(count)


def _recurrent(gates: int, per_unit: int) -> Handle:
    """Count recurrent cells with `gates` gates over tokens (…, E), packed or not: a multiply-add for each token and
    weight of every layer and direction. Element operations are a sum and a function for each gate, and `per_unit` more.
    """

    def handle(inputs: list[Any], _: list[Any]) -> Counter[str]:
        tokens = prod(_shape(inputs[0])[:-1])
        # The weights are the last list of tensors; an LSTM's initial states are a list too.
        weights = [each for each in inputs if each.type().kind() == "ListType"][-1]
        shapes = [_shape(weight) for weight in weights.node().inputs()]
        matrices = [shape for shape in shapes if len(shape) == 2]
        count = _macs(tokens * sum(prod(shape) for shape in matrices))
        # Each layer and direction has two matrices, one for the input and one for the state.
        rows = sum(shape[0] for shape in matrices) // 2
        count[ELEMENTWISE] = tokens * (2 * rows + rows // gates * per_unit)
        return count

    return handle


def _conversion(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Count a change of type; moving or copying without one computes nothing."""
    if inputs[0].type().dtype() == outputs[0].type().dtype():
        return Counter()
    return _each_written(inputs, outputs)


def _names(text: str) -> list[str]:
    return [f"aten::{name}" for name in text.split()]


def operator_handles() -> dict[str, Handle]:
    """Return the handle of every operator that computes, by its name in a traced graph."""
    handles: dict[str, Handle] = {
        "aten::linear": _product(0),
        "aten::matmul": _product(0),
        "aten::mm": _product(0),
        "aten::bmm": _product(0),
        "aten::mv": _product(0),
        "aten::dot": _product(0),
        "aten::_int_mm": _product(0),
        "aten::addmm": _product(1),
        "aten::addmv": _product(1),
        "aten::baddbmm": _product(1),
        "aten::einsum": _einsum,
        "aten::embedding_bag": _embedding_bag,
        # c = f c + i g, h = o tanh(c): five operations.
        "aten::lstm": _recurrent(gates=4, per_unit=5),
        "aten::rnn_tanh": _recurrent(gates=1, per_unit=0),
        "aten::layer_norm": _normalisation,
        "aten::native_layer_norm": _normalisation,
        "aten::rms_norm": _normalisation,
        "aten::softmax": _normalisation,
        "aten::_softmax": _normalisation,
        "aten::log_softmax": _normalisation,
        "aten::to": _conversion,
        "aten::_to_copy": _conversion,
        "aten::type_as": _conversion,
    }
    for name in (
        "scaled_dot_product_attention",
        "_scaled_dot_product_attention_math",
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
    ):
        handles[f"aten::{name}"] = _attention
    for name in _names(WRITES):
        handles[name] = _each_written
        handles[f"{name}_"] = _each_written
    for name in _names(READS):
        handles[name] = _each_read
    return handles


WRITES = """
    add sub rsub mul div true_divide floor_divide remainder fmod pow square sqrt rsqrt reciprocal exp exp2
    expm1 log log2 log1p special_entr abs neg sign round floor ceil trunc clamp clamp_min clamp_max clip relu gelu silu
    hardtanh leaky_relu elu softplus tanh sigmoid hardsigmoid erf sin cos maximum minimum where
    masked_fill eq ne lt le gt ge logical_and logical_or logical_not logical_xor bitwise_and bitwise_or
    bitwise_not bitwise_xor bitwise_left_shift bitwise_right_shift __and__ __or__ __xor__ __lshift__
    __rshift__ isnan isinf isfinite addcmul addcdiv lerp fake_quantize_per_tensor_affine
    fake_quantize_per_channel_affine quantize_per_tensor quantize_per_channel dequantize
"""
"""Operators that count one operation for each element written."""

READS = """
    sum mean prod amax amin max min argmax argmin all any norm linalg_vector_norm var std cumsum cumprod
    sort argsort topk logsumexp count_nonzero
"""
"""Operators that count one operation for each element read. A sort's further comparisons are not counted."""

COMPUTES_NOTHING = frozenset(
    _names(
        """
        embedding index index_select gather take_along_dim select slice narrow view view_as reshape
        reshape_as flatten unflatten permute transpose t numpy_T adjoint squeeze unsqueeze expand expand_as
        broadcast_to repeat repeat_interleave tile roll flip contiguous clone alias detach copy_ lift_fresh
        cat concat stack split split_with_sizes chunk tensor_split unbind unfold movedim diagonal
        constant_pad_nd pad dropout feature_dropout empty empty_like zeros zeros_like ones ones_like full
        full_like new_empty new_zeros new_ones new_full fill_ zero_ arange scalar_tensor tensor size dim
        numel Int Float Bool IntImplicit FloatImplicit ScalarImplicit scatter scatter_ index_put index_put_
        index_copy index_fill masked_scatter masked_select nonzero tril triu one_hot item is_floating_point
        _pack_padded_sequence _pad_packed_sequence resolve_conj resolve_neg set_ squeeze_ unsqueeze_ pin_memory cuda cpu
        """
    )
)
"""Operators that look up, move, reshape or create data, that run only in training, or that handle scalars of the traced
Python code.
"""
