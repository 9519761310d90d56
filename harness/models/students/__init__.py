"""Students: bag of words, recurrent, convolutional, and MobileBERT. Each is a `Model` with its own configuration."""
