"""Calibrated probabilistic FX forecasts from latent diffusion, and trading sized by their uncertainty, on Ray."""

__version__ = "0.1.0"
