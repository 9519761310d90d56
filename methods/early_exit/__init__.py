"""Methods that let a row leave the encoder at an inner layer, once its prediction is certain enough."""
