"""Past candles through the engine that trades: the same runner, with a simulated clock, feed and broker."""
