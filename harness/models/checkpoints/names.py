"""Names of the encoder's parameters here and in `transformers`."""

from __future__ import annotations

from harness.models.config import EncoderConfig

LAYER_NAMES = {
    "attention_in.query": "attention.self.query",
    "attention_in.key": "attention.self.key",
    "attention_in.value": "attention.self.value",
    "attention_out.dense": "attention.output.dense",
    "attention_out.norm": "attention.output.LayerNorm",
    "ffn.into": "intermediate.dense",
    "ffn.out": "output.dense",
    "ffn.norm": "output.LayerNorm",
}
OUTER_NAMES = {
    "embedding.word": "embeddings.word_embeddings",
    "embedding.position": "embeddings.position_embeddings",
    "embedding.segment": "embeddings.token_type_embeddings",
    "embedding.norm": "embeddings.LayerNorm",
    "head.pooler": "pooler.dense",
}


def hf_names(config: EncoderConfig) -> dict[str, str]:
    """Map our name of each parameter, except the classifier's, to its name in `transformers` without `bert.`."""
    names = dict(OUTER_NAMES)
    if not config.pooler or config.head.kind == "span":
        del names["head.pooler"]
    for index in range(len(config.layers)):
        names |= {
            f"layers.{index}.{ours}": f"encoder.layer.{index}.{theirs}"
            for ours, theirs in LAYER_NAMES.items()
        }
    result = {}
    for ours, theirs in names.items():
        result[f"{ours}.weight"] = f"{theirs}.weight"
        if not theirs.endswith("_embeddings"):
            result[f"{ours}.bias"] = f"{theirs}.bias"
    return result


def classifier_names(config: EncoderConfig) -> dict[str, str]:
    """Map our name of each parameter of the classifier to its name in `transformers`."""
    if config.head.kind == "none":
        return {}
    theirs = "qa_outputs" if config.head.kind == "span" else "classifier"
    return {f"head.classifier.{part}": f"{theirs}.{part}" for part in ("weight", "bias")}


LANGUAGE_MODEL_NAMES = {
    "transform": "cls.predictions.transform.dense",
    "norm": "cls.predictions.transform.LayerNorm",
}


def language_model_names() -> dict[str, str]:
    """Map our name of each parameter of a masked language model's head to its name in `transformers`.

    The decoder matrix is not among them: it is tied to the word embeddings.
    """
    names = {
        f"{ours}.{part}": f"{theirs}.{part}"
        for ours, theirs in LANGUAGE_MODEL_NAMES.items()
        for part in ("weight", "bias")
    }
    return names | {"bias": "cls.predictions.bias"}
