(component (core module $m (memory (export "m") 3000)) (core instance (instantiate $m)))
