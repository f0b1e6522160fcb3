(component (core module $m (func $s (loop $l (br $l))) (start $s)) (core instance (instantiate $m)))
