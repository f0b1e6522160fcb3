(component (core module $m (memory 320) (func (export "f") (result i32) (memory.size)))
  (core instance $i (instantiate $m)) (func $f (result u32) (canon lift (core func $i "f"))) (instance (export "t:c/b") (export "f" (func $f))))
