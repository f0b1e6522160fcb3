(component (core module $m (memory (export "m") 1) (func (export "e") (result i32) (i32.const 0)) (func (export "p") (param i32) (loop $l (br $l))))
 (core instance $i (instantiate $m)) (func (export "e") (result string) (canon lift (core func $i "e") (memory (core memory $i "m")) (post-return (core func $i "p")))))
