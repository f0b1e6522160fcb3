(component (core module $m (table $t 100000000 funcref)) (core instance (instantiate $m)))
