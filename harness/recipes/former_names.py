"""Old names of modules that moved and of attributes that were renamed. If an adapter uses an old name, the error's one
line gives the new name.
"""

from __future__ import annotations

import ast
import traceback
from importlib.util import find_spec
from pathlib import Path

ATTRIBUTES = {
    "after_training": "post_training_options",
    "check": "final_shape_from",
    "last": "must_be_last",
    "needs_training": "trains",
    "rewinds": "restarts_from_pretrained",
    "rewrites": "decides",
    "settled": "fully_compressed_at",
}
"""Renamed attributes of `Method`: the new name by the old one."""
OF_CONTEXT = {
    "train": "call harness.compression.training.train_round",
    "trains": "use shapes_only, which is True where only shapes are wanted",
}
"""Removed attributes of `Context`, and what to do instead."""

_MOVED = {
    "harness.common": "errors files hardware hub isolation>processes validation warm>preload",
    "harness.compression": (
        "comparable data>encoded_rows early_exit evaluation exits>exit_rules "
        "masked_language_model>pretraining method teacher>teacher_logits trained>trained_weights training"
    ),
    "harness.compression.distillation": (
        "augmentation distillation>losses features layer_maps students.distilling>students"
    ),
    "harness.compression.pruning": (
        "gates>importance gradual learned_masks movement_pruning>movement pruning>masks reconstruction "
        "rewinding vocabulary"
    ),
    "harness.compression.quantization": "fake_quantization",
    "harness.conformance": "check scaffold",
    "harness.models": (
        "architectures artifacts checkpoints codecs config counts>parameter_counts embeddings "
        "kernels>int8_linear model models>factory parametrized>parametrization refusals>shape_checks students "
        "surgery tokenizer weightless>initialization"
    ),
    "harness.models.encoder": "attention encoder segment_cache word_vectors",
    "harness.models.flops": "profiling.exits>exits profiling.flops>counting profiling.operators>operators",
    "harness.profiling.costs": (
        "profiling.cached>cached profiling.ceilings>ceilings profiling.components>components "
        "profiling.kept_costs>kept profiling.memory>memory profiling.size>size profiling.traffic>traffic"
    ),
    "harness.profiling.latency": (
        "profiling.agreement>agreement profiling.latency>pairs profiling.noise>noise "
        "profiling.sittings>sittings profiling.speed>paired profiling.statistics>statistics "
        "profiling.timers>timers profiling.unpaired>unpaired"
    ),
    "harness.recipes": "build>builder compatibility discovery provenance>fingerprints recipe",
    "harness.records": "cells record_checks>checks records>schema store",
    "harness.runs": "engines execute>cell_execution limits planning prebuilding run suites",
    "methods.distillation": "students.architecture_search>_architecture_search",
    "methods.quantization": "curvature>_curvature quantization_noise>_quantization_noise",
    "methods.structured_pruning": (
        "residuals>_residual_norms spectral>_spectral_scale subnetworks>_subnetworks "
        "unit_factors>_unit_scales"
    ),
}
"""By new package, the modules of `harness` that moved there, as `old>new` if the name changed too. If a package moved,
all its modules moved with it.
"""
MODULES = {
    f"harness.{old}": f"{package}.{new or old}"
    for package, modules in _MOVED.items()
    for old, _, new in (module.partition(">") for module in modules.split())
}
NAMES = {
    ("harness.records", "harness.common.files"): "write_atomically",
    ("harness.store", "harness.common.files"): "read_json write_json",
    ("harness.files", "harness.common.hashing"): "sha256 fresh_sha256",
    ("harness.provenance", "harness.common.hashing"): "digest",
    ("harness.provenance", "harness.records.versions"): (
        "TRAINING_VERSION EVALUATION_VERSION PROFILING_VERSION"
    ),
    ("harness.records", "harness.common.hardware"): "Hardware",
    ("harness.records", "harness.records.costs"): "COSTS Cost",
    ("harness.config", "harness.models.attention_kinds"): (
        "AttentionKind LocalAttention TopKAttention LinformerAttention SegmentAttention SpanAttention"
    ),
    ("harness.config", "harness.models.frozen_config"): "FrozenConfig Positive Count",
    ("harness.model", "harness.models.batch"): "Batch AttentionMap Output",
    ("harness.encoder", "harness.models.batch"): "Batch AttentionMap Output",
    ("harness.encoder", "harness.models.model"): "INITIALIZER_RANGE Model Storage evaluating",
    ("harness.encoder", "harness.models.encoder.low_rank"): "LowRankLinear linear",
    ("harness.encoder", "harness.models.encoder.layers"): (
        "gelu_tanh ACTIVATIONS Embedding AttentionIn AttentionOut FeedForward Layer"
    ),
    ("harness.encoder", "harness.models.encoder.heads"): "Head",
    ("harness.exits", "harness.models.encoder.heads"): "PoolerRamp LinearRamp StudentRamp RAMPS",
    ("harness.exits", "harness.models.encoder.exits"): "entropy Judge",
    ("harness.exits", "harness.models.encoder.encoder"): "run_with_exits run_to_depth",
    ("harness.word_vectors", "methods.word_vector_elimination._soft_extraction"): (
        "SoftExtract ranks soften harden retention_counts"
    ),
    ("harness.masked_language_model", "harness.models.encoder.mlm_head"): "MaskedLanguageModelHead",
    ("harness.compatibility", "harness.compression.comparable"): (
        "Shape Baseline refuse_other_places refuse_other_tokens"
    ),
    ("harness.refusals", "harness.compression.distillation.augmentation"): "refuse_texts_without_candidates",
    ("harness.training", "harness.compression.context"): "Budget Context Step Progress Augmented",
    ("harness.training", "harness.compression.task_loss"): "task_loss",
    ("harness.training", "harness.common.hardware"): "has_bfloat16",
    ("harness.method", "harness.compression.card"): "FAMILIES Need Scope Fidelity options Paper Claim Card",
    ("harness.execute", "harness.runs.record_making"): "make_record",
    ("harness.execute", "harness.runs.profile_run"): (
        "Made ProfileRun make_for_profile real_inputs execute_profile"
    ),
    ("harness.run", "harness.runs.progress"): "Display cell_name record_name describe_failure",
    ("harness.engines.local", "harness.runs.job"): "Job",
}
"""By (old module, new module), the names that did not move with the rest of their module."""


def instead(error: BaseException) -> str:
    """Return what to write instead of the old name that caused an error; empty if no old name caused it."""
    if isinstance(error, AttributeError) and type(error.obj).__name__ == "Context":
        return OF_CONTEXT.get(error.name or "", "")
    if not isinstance(error, ImportError) or error.name is None:
        return ""
    module, names = _failed_import(error) or (error.name, [])
    if module == "harness":  # from harness import surgery
        return " and ".join(f"import {home}" for name in names if (home := _home(f"harness.{name}")))
    home = _home(module)
    if home is None:
        return ""
    moved = {name: new for (old, new), several in NAMES.items() if old == module for name in several.split()}
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(moved.get(name, home), []).append(name)
    parts = [f"import {', '.join(several)} from {new}" for new, several in sorted(found.items())]
    return " and ".join(parts) or f"import {home}"


def _home(module: str) -> str | None:
    """Return a module's present name; None if it has not moved."""
    if module in MODULES:
        return MODULES[module]
    package, _, last = module.rpartition(".")
    spec = find_spec(MODULES[package]) if package in MODULES else None
    # The old module may have been a plain module, like `harness.models`, so that the new one must be a package.
    return f"{MODULES[package]}.{last}" if spec and spec.submodule_search_locations else None


def _failed_import(error: ImportError) -> tuple[str, list[str]] | None:
    """Return the module and the names of the `from` statement that failed; None if another statement failed."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<")]
    if not frames:
        return None
    for node in ast.walk(ast.parse(Path(frames[-1].filename).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.lineno == frames[-1].lineno and node.module:
            return node.module, [alias.name for alias in node.names]
    return None
