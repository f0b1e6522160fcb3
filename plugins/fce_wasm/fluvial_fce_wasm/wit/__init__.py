"""WIT, the interface language of WebAssembly components: types as values, their text, and comparing them. Pure."""
