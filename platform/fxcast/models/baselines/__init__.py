"""The forecasters that LDM4TS is compared with."""
