"""The laboratory: networks of peers in virtual time, each running the same machine as a node would."""
