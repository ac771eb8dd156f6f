"""Values that the whole of fxcast shares; standard library and numpy only."""
