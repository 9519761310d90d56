"""Methods that use fewer bits for each weight or activation."""
