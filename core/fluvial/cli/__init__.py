"""The command ``fluvial``: each command a thin module over the rest of core, imported only when it runs."""
