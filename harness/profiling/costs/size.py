"""The sizes of an artifact: bytes as `ls -l` shows them, and parameters by the survey's convention."""

from __future__ import annotations

from pathlib import Path

import torch
from isal import isal_zlib

from harness.models.artifacts import CONFIG, WEIGHTS, EncodedWeights, artifact_hash, read_config
from harness.models.codecs import Codec
from harness.models.factory import make_model
from harness.models.initialization import without_weights
from harness.records.schema import ArtifactFacts

CLASSIFIER = "head.classifier."
WORD_EMBEDDINGS = "embedding.word."
LAYERS = ("layers.", "body.")
"""Prefixes of the layers' parameters; a student has a body in place of layers."""
GZIP_LEVEL, GZIP_FORMAT = 3, 31
"""The level is ISA-L's densest. The format asks zlib's interface for a gzip header."""


def artifact_facts(folder: Path) -> ArtifactFacts:
    """Measure an artifact's files. Raises SkylineError if it is damaged.

    `survey_params` follows Ganesh et al. 2021, Table 1, as recomputed from its rows: a weight of k bits counts k / 32,
    a pruned weight counts 0, and so do masks and scales. The task's classifier does not count, since their baseline of
    109,482,240 weights has none.
    """
    config = read_config(folder)
    with without_weights():
        model = make_model(config.model)
    params = nonzero = embedding_params = embedding_bytes = 0
    survey = survey_embedding = survey_layers = 0.0
    shapes = {name: tensor.shape for name, tensor in model.contents().items()}
    codes = {name for name, tensor in model.contents().items() if not tensor.is_floating_point()}
    for name, encoded in EncodedWeights(folder, config, shapes):
        codec, shape = Codec.parse(config.codecs.get(name, "dense")), shapes[name]
        params += shape.numel()
        # A code of 0 is an index like any other, not a zero weight.
        nonzero += shape.numel() if name in codes else int(torch.count_nonzero(codec.decode(encoded, shape)))
        # A zero that the codec stores counts.
        counted = codec.kept(encoded, shape) * codec.bits / 32
        if not name.startswith(CLASSIFIER):
            survey += counted
        if name.startswith(LAYERS):
            survey_layers += counted
        if name.startswith(WORD_EMBEDDINGS):
            embedding_params += shape.numel()
            survey_embedding += counted
            embedding_bytes += sum(tensor.nbytes for tensor in (encoded.values, *encoded.beside.values()))
    weight_bytes = (folder / WEIGHTS).stat().st_size
    config_bytes = (folder / CONFIG).stat().st_size
    return ArtifactFacts(
        hash=artifact_hash(folder),
        disk_bytes=weight_bytes + config_bytes,
        weight_bytes=weight_bytes,
        config_bytes=config_bytes,
        word_embedding_bytes=embedding_bytes,
        gzip_bytes=_gzip_bytes(folder / WEIGHTS) + _gzip_bytes(folder / CONFIG),
        params=params,
        nonzero_params=nonzero,
        word_embedding_params=embedding_params,
        bits_per_weight=8 * weight_bytes / params,
        survey_params=survey,
        survey_params_without_embeddings=survey - survey_embedding,
        survey_layer_params=survey_layers,
    )


def _gzip_bytes(path: Path) -> int:
    # ISA-L's archives are within about 1 % of gzip's size, in a tenth of the time. Only the size is measured.
    packer, size = isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, GZIP_FORMAT), 0
    with path.open("rb") as source:
        while block := source.read(1 << 20):
            size += len(packer.compress(block))
    return size + len(packer.flush())
