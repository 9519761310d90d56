"""Sub-networks that run on slices of an encoder's weights, for dynabert. Training one trains the encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from harness.models.batch import Batch, Output
from harness.models.config import EncoderConfig
from harness.models.encoder.encoder import Encoder
from harness.models.initialization import without_weights


def live_weight(model: Encoder, name: str) -> Tensor:
    """Return the weight that `model` computes with, by its name in an artifact. Gradients flow through it.

    For a parametrized weight this is the output of its parametrization.
    """
    path, _, attribute = name.rpartition(".")
    weight: Tensor = getattr(model.get_submodule(path), attribute)
    return weight


class SubNetwork:
    """An encoder of shape `config` whose layer i uses the first rows and columns of layer `layers[i]` of a larger
    encoder.
    """

    def __init__(self, config: EncoderConfig, layers: Sequence[int]) -> None:
        self.config, self.layers = config, tuple(layers)
        with without_weights():
            self.skeleton = Encoder(config)

    def slices(self, weight: Callable[[str], Tensor]) -> dict[str, Tensor]:
        """Return views of the larger encoder's weights (`weight` gives them by name), by the sub-network's names."""
        found = {}
        for name, shape in ((name, t.shape) for name, t in self.skeleton.contents().items()):
            source = name
            if name.startswith("layers."):
                _, index, rest = name.split(".", 2)
                source = f"layers.{self.layers[int(index)]}.{rest}"
            found[name] = weight(source)[tuple(slice(size) for size in shape)]
        return found

    def run(self, weight: Callable[[str], Tensor], batch: Batch, training: bool = False) -> Output:
        """Return logits (b, classes) and hidden states, computed with slices of the larger encoder's weights.

        Dropout is on if `training`.
        """
        self.skeleton.train(training)
        output: Output = torch.func.functional_call(
            self.skeleton, self.slices(weight), (batch,), {"hidden_states": True}
        )
        return output
