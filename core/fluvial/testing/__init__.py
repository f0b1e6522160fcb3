"""Compliance kits that any plugin author runs against their own plugin: subclass one, give it its fixture, run pytest."""
