"""``fluvial doctor``: checks a peer and reports what is wrong, whether it runs or not.

``command.py`` is the command, ``examination.py`` has the order of the checks, ``containment.py`` contains the failures of each check.
``settings.py``, ``machine.py``, ``ledger.py`` and ``running.py`` are core's own checks; ``plugins.py`` has those of plugins.
"""
