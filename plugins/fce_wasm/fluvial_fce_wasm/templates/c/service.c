/* The service: the canonical ABI by hand, without libc. A string is a pointer and a length, a result larger than one value is returned by a
   pointer to where it lies. */
#include <stdint.h>

#define EXPORT(name) __attribute__((export_name(name)))
#define INTERFACE "local:@NAME@/api@0.1.0#"
#define VISITS_MAX 64
#define NAME_MAX 64

extern unsigned char __heap_base;
static uintptr_t heap;

/* Memory of one call: it is given back when the next call's result has been read (cabi_post_…). */
EXPORT("cabi_realloc") void *cabi_realloc(void *old, uint32_t old_size, uint32_t align, uint32_t size) {
  if (!heap) heap = (uintptr_t)&__heap_base;
  uintptr_t begin = (heap + align - 1) & ~(uintptr_t)(align - 1), end = begin + size;
  uintptr_t have = (uintptr_t)__builtin_wasm_memory_size(0) * 65536u;
  if (end > have && __builtin_wasm_memory_grow(0, (end - have + 65535u) / 65536u) == (uintptr_t)-1) __builtin_trap();
  heap = end;
  if (old && old_size) __builtin_memcpy((void *)begin, old, old_size < size ? old_size : size);
  return (void *)begin;
}

typedef struct { const char *name; uint32_t name_size, times; } visit;

static char names[VISITS_MAX][NAME_MAX];
static visit visits_[VISITS_MAX];
static uint32_t count, result[2];

static int same(const char *a, const char *b, uint32_t size) {
  for (uint32_t i = 0; i < size; i++) if (a[i] != b[i]) return 0;
  return 1;
}

static void note(const char *name, uint32_t size) {
  if (size > NAME_MAX) size = NAME_MAX;
  for (uint32_t i = 0; i < count; i++)
    if (visits_[i].name_size == size && same(visits_[i].name, name, size)) { visits_[i].times++; return; }
  if (count == VISITS_MAX) return;
  for (uint32_t i = 0; i < size; i++) names[count][i] = name[i];
  visits_[count] = (visit){names[count], size, 1};
  count++;
}

EXPORT(INTERFACE "greet") uint32_t *greet(const char *name, uint32_t size) {
  note(name, size);
  char *text = cabi_realloc(0, 0, 1, size + 8);
  __builtin_memcpy(text, "Hello, ", 7);
  for (uint32_t i = 0; i < size; i++) text[7 + i] = name[i];
  text[7 + size] = '!';
  result[0] = (uint32_t)(uintptr_t)text;
  result[1] = size + 8;
  return result;
}
EXPORT("cabi_post_" INTERFACE "greet") void greet_done(uint32_t *unused) { heap = (uintptr_t)&__heap_base; }

EXPORT(INTERFACE "visits") uint32_t *visits(void) {
  result[0] = (uint32_t)(uintptr_t)visits_;
  result[1] = count;
  return result;
}
