"""Servers that speak the vendors' protocols over loopback, follow a script, and misbehave on demand."""
