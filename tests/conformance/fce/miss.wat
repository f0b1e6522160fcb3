(component (import "t:c/zz@1.0.0" (instance $b (export "f" (func (result u32))))))
