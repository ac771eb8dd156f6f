"""The search over the whole system: its space, what a trial is worth, and the guard against fooling ourselves."""
