"""Packed predictions: what is read back is what was packed."""

from __future__ import annotations

import hypothesis.extra.numpy as arrays
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harness.records.predictions import pack_predictions, unpack_correct, unpack_scores


@given(st.data(), st.integers(2, 4), st.integers(1, 40))
def test_classes_are_read_back(data: st.DataObject, classes: int, rows: int) -> None:
    logits = data.draw(arrays.arrays(np.float32, (rows, classes), elements=st.floats(-30, 30, width=16)))
    labels = data.draw(st.lists(st.integers(0, classes - 1), min_size=rows, max_size=rows))
    packed = pack_predictions(logits, labels, classes)
    answers = logits.argmax(axis=1)
    correct = unpack_correct(packed)
    assert correct is not None
    assert correct.tolist() == (answers == np.array(labels)).tolist()
    assert packed.answered == tuple((answers == name).sum() for name in range(classes))
    assert packed.majority == 100 * max(labels.count(name) for name in range(classes)) / rows
    scores = unpack_scores(packed)
    expected = logits[:, 1] - logits[:, 0] if classes == 2 else logits
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-6)
    if classes == 2:
        assert ((scores > 0) == (answers == 1)).all()


@given(
    arrays.arrays(np.float32, st.tuples(st.integers(1, 40), st.just(1)), elements=st.floats(-6, 6, width=16))
)
def test_scores_are_read_back(logits: np.ndarray) -> None:
    packed = pack_predictions(logits, None, 1)
    assert unpack_correct(packed) is None
    np.testing.assert_array_equal(unpack_scores(packed), logits[:, 0])
