"""What runs guests: the engine, values in and out, linked instances."""
