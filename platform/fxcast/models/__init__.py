"""LDM4TS: the parts of the model, and the forecasters it is compared with."""
