"""The boundary around foreign code: calls with a deadline, whose failure costs that call alone, and the seats behind it."""
