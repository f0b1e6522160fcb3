(component (core module $m (memory (export "m") 1) (func (export "realloc") (param i32 i32 i32 i32) (result i32) (loop $l (br $l)) (unreachable)) (func (export "e") (param i32 i32)))
 (core instance $i (instantiate $m)) (func (export "e") (param "s" string) (canon lift (core func $i "e") (memory (core memory $i "m")) (realloc (core func $i "realloc")))))
