"""For authors of plugins: a conformance kit for each thing that a plugin can be, one part alone (``solo``), whole nodes in one process (``nodes``)."""
