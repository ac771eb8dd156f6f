"""Files of candles, in the formats that vendors write; a bad row is refused with its line and reason."""
