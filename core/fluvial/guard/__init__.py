"""The line around foreign code: calls that have a deadline and cost no more than themselves, and the seats behind them."""
