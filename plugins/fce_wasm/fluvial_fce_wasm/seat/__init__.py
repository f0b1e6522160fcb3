"""The execution ``wasm``: what is deployed, how it is called, and its built-in services ``dist`` and ``srv``."""
