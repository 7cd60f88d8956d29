"""Where knowledge sits in a model: channels, their attribution and selection, the packing of a portion."""
