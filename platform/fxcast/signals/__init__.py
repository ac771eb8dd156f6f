"""What the sources say of the market, how they are combined, and how good the combination is."""
