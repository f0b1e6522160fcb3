"""``fluvial doctor``: looks at a peer from all sides and says what is wrong, whether it runs or not.

``command.py`` is the command, ``examination.py`` says what is looked at and in which order, ``containment.py`` keeps each look apart from
the others. ``settings.py``, ``machine.py`` and ``running.py`` are core's own checks; ``plugins.py`` has those of plugins.
"""
