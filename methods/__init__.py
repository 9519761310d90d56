"""One folder a family, one file a method. A method imports `harness`, never another method."""
