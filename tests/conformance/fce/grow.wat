(component (core module $m (memory 1) (func (export "f") (result i32) (memory.grow (i32.const 200))))
  (core instance $i (instantiate $m)) (func $f (result u32) (canon lift (core func $i "f"))) (instance (export "t:c/b") (export "f" (func $f))))
