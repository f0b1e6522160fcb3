"""The story of a particle, told from signed facts.

``story.py`` is the model and tells it from one peer's store; ``merging.py`` makes one story of several peers'. Each rendering is a module
with a pure function ``render(story, names=…)``: ``text``, ``data`` (JSON), ``mermaid``, ``svg`` and ``html``. ``wording.py`` says how
peers, times and values are put, and makes harmless what strangers wrote; ``diagram.py`` is the sequence diagram before it is drawn.
"""
