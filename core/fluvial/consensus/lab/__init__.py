"""The laboratory: whole networks of replicas in virtual time, with faults and liars, as data (``fluvial lab consensus``)."""
