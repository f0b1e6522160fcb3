"""The story of a particle as one peer knows it, told from signed facts: model, and renderings as text, JSON, Mermaid and SVG."""
