(component (core module $m (func (export "e") (result f64) (f64.const nan))) (core instance $i (instantiate $m)) (func (export "e") (result f64) (canon lift (core func $i "e"))))
