"""Backtests worked out by hand: tables of candles and signals, and what must come of them."""
