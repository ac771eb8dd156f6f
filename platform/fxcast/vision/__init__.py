"""Candle windows as images: segmentation (SEG), Gramian angular field (GAF), recurrence plot (RP)."""
