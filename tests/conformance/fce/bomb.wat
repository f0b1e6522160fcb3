(component (core module $m (memory (export "m") 1) (func (export "e") (result i32) (local $n i32)
 (block $d (loop $l (br_if $d (i32.eq (memory.grow (i32.const 16)) (i32.const -1))) (local.set $n (i32.add (local.get $n) (i32.const 1))) (br $l))) (local.get $n)))
 (core instance $i (instantiate $m)) (func (export "e") (result u32) (canon lift (core func $i "e"))))
