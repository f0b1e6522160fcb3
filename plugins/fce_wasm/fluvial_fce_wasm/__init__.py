"""Services as linked WebAssembly components: modules, blueprints, services, and the seat that runs them."""
