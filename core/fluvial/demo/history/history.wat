;; The messages of the chat, numbered from 1, in the key-value store of this service: "count", and "m1", "m2", … WebAssembly text.
(component
  (import "fluvial:kv/store@0.1.0" (instance $kv
    (export "get" (func (param "key" string) (result (option string))))
    (export "set" (func (param "key" string) (param "value" string) (result (result (error string)))))))

  ;; Memory with an allocator that forgets everything at the end of a call. Results lie at fixed places below 4096.
  (core module $memory
    (memory (export "memory") 2)
    (data (i32.const 8) "count")
    (global $next (mut i32) (i32.const 4096))
    (func (export "realloc") (param $old i32) (param $old-size i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $at) (local.get $size)))
      (local.get $at))
    (func (export "reset") (global.set $next (i32.const 4096))))
  (core instance $m (instantiate $memory))

  (core func $get (canon lower (func $kv "get") (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
  (core func $set (canon lower (func $kv "set") (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))

  (core module $code
    (import "m" "memory" (memory 2))
    (import "m" "reset" (func $reset))
    (import "host" "get" (func $get (param i32 i32 i32)))
    (import "host" "set" (func $set (param i32 i32 i32 i32 i32)))

    ;; Writes "m" and a number in decimal, so that it ends before address 256; where the "m" is.
    (func $key (param $number i32) (result i32)
      (local $at i32)
      (local.set $at (i32.const 256))
      (loop $digit
        (local.set $at (i32.sub (local.get $at) (i32.const 1)))
        (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10))))
        (br_if $digit (local.tee $number (i32.div_u (local.get $number) (i32.const 10)))))
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at) (i32.const 109))
      (local.get $at))

    ;; Stores a text; a full store stops the call, so that nothing of it is kept.
    (func $put (param $key i32) (param $key-size i32) (param $text i32) (param $size i32)
      (call $set (local.get $key) (local.get $key-size) (local.get $text) (local.get $size) (i32.const 32))
      (if (i32.load8_u (i32.const 32)) (then unreachable)))

    (func $count (result i32)
      (local $number i32) (local $at i32) (local $left i32)
      (call $get (i32.const 8) (i32.const 5) (i32.const 48))
      (if (i32.load8_u (i32.const 48)) (then
        (local.set $at (i32.load (i32.const 52)))
        (local.set $left (i32.load (i32.const 56)))
        (loop $digit
          (local.set $number
            (i32.add (i32.mul (local.get $number) (i32.const 10)) (i32.sub (i32.load8_u (local.get $at)) (i32.const 48))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br_if $digit (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))
      (local.get $number))

    (func (export "message-sent") (param $text i32) (param $size i32) (result i32)
      (local $number i32) (local $key i32)
      (local.set $number (i32.add (call $count) (i32.const 1)))
      (local.set $key (call $key (local.get $number)))
      (call $put (local.get $key) (i32.sub (i32.const 256) (local.get $key)) (local.get $text) (local.get $size))
      (call $put (i32.const 8) (i32.const 5) ;; the digits behind the "m"
        (i32.add (local.get $key) (i32.const 1)) (i32.sub (i32.const 255) (local.get $key)))
      (call $reset)
      (local.get $number))

    (func (export "message") (param $number i32) (result i32)
      (local $key i32)
      (local.set $key (call $key (local.get $number)))
      (call $get (local.get $key) (i32.sub (i32.const 256) (local.get $key)) (i32.const 64))
      (call $reset)
      (i32.const 64)))
  (core instance $i (instantiate $code
    (with "m" (instance $m))
    (with "host" (instance (export "get" (func $get)) (export "set" (func $set))))))

  ;; A message was sent: keeps it and says how many there are now.
  (func (export "message-sent") (param "text" string) (result u32)
    (canon lift (core func $i "message-sent") (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
  ;; A message by its number.
  (func (export "message") (param "number" u32) (result (option string))
    (canon lift (core func $i "message") (memory (core memory $m "memory")))))
