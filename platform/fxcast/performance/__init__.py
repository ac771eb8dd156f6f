"""What trading was worth: trades, measures with their intervals, comparisons, and the report of a backtest."""
