(component (core module $m (func (export "e") (result i32) (i32.const 0xd800))) (core instance $i (instantiate $m)) (func (export "e") (result char) (canon lift (core func $i "e"))))
