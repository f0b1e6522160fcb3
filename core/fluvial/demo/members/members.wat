;; Who is in the chat: a set of peers in the key-value store of this service. WebAssembly text: `fluvial service deploy` assembles it.
(component
  (import "fluvial:kv/store@0.1.0" (instance $kv
    (export "get" (func (param "key" string) (result (option string))))
    (export "set" (func (param "key" string) (param "value" string) (result (result (error string)))))
    (export "keys" (func (param "prefix" string) (param "after" string) (param "limit" u32) (result (list string))))))
  (import "fluvial:service/context@0.1.0" (instance $context (export "initiator" (func (result string)))))

  ;; Memory with an allocator that forgets everything at the end of a call. Results lie at fixed places below 4096.
  (core module $memory
    (memory (export "memory") 2)
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
  (core func $keys (canon lower (func $kv "keys") (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
  (core func $initiator (canon lower (func $context "initiator") (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))

  (core module $code
    (import "m" "memory" (memory 2))
    (import "m" "reset" (func $reset))
    (import "host" "get" (func $get (param i32 i32 i32)))
    (import "host" "set" (func $set (param i32 i32 i32 i32 i32)))
    (import "host" "keys" (func $keys (param i32 i32 i32 i32 i32 i32)))
    (import "host" "initiator" (func $initiator (param i32)))

    ;; A full store stops the call.
    (func (export "add") (param $peer i32) (param $size i32)
      (call $set (local.get $peer) (local.get $size) (i32.const 0) (i32.const 0) (i32.const 16))
      (if (i32.load8_u (i32.const 16)) (then unreachable))
      (call $reset))

    (func (export "is-member") (param $given i32) (param $peer i32) (param $size i32) (result i32)
      (if (i32.eqz (local.get $given)) (then
        (call $initiator (i32.const 32))
        (local.set $peer (i32.load (i32.const 32)))
        (local.set $size (i32.load (i32.const 36)))))
      (call $get (local.get $peer) (local.get $size) (i32.const 48))
      (call $reset)
      (i32.load8_u (i32.const 48))) ;; 1 if there is a value

    (func (export "list") (result i32)
      (call $keys (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1000) (i32.const 64))
      (call $reset)
      (i32.const 64)))
  (core instance $i (instantiate $code
    (with "m" (instance $m))
    (with "host" (instance
      (export "get" (func $get)) (export "set" (func $set)) (export "keys" (func $keys)) (export "initiator" (func $initiator))))))

  ;; Puts a peer into the chat; who may do that is up to the rules of the peer.
  (func (export "add") (param "peer" string)
    (canon lift (core func $i "add") (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
  ;; Whether a peer is in the chat: the particle's initiator if none is given.
  (func (export "is-member") (param "peer" (option string)) (result bool)
    (canon lift (core func $i "is-member") (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
  ;; All members, at most a thousand.
  (func (export "list") (result (list string)) (canon lift (core func $i "list") (memory (core memory $m "memory")))))
