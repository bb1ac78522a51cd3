"""Export, compile, run, score and time a model on an inference chip."""
