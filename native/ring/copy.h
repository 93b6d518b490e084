/* Copying more than the processor's cache can hold. No Python.h here. */
#ifndef IPCKIT_COPY_H
#define IPCKIT_COPY_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>

/* From this size on, the other side does not find the copy in the cache anyway, and an ordinary
   store first reads the memory that it overwrites. Below it, streaming stores would make the reader
   wait for memory. */
#define STREAMING_MIN_BYTES ((size_t)8 << 20)
#define STREAMING_STEP 128

/* Copies `bytes`, a multiple of STREAMING_STEP, to memory aligned to 32 bytes. */
__attribute__((target("avx"))) static inline void
copy_streaming(char *to, const char *from, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += STREAMING_STEP) {
        for (size_t part = 0; part < STREAMING_STEP; part += 32) {
            __m256i data = _mm256_loadu_si256((const __m256i *)(const void *)(from + at + part));
            _mm256_stream_si256((__m256i *)(void *)(to + at + part), data);
        }
    }
    _mm_sfence(); /* streaming stores are not ordered by a later release */
}
#endif

/* Copies `bytes`; the two ranges may overlap. */
static inline void
copy_large(char *to, const char *from, size_t bytes)
{
#if defined(__x86_64__)
    bool apart = to + bytes <= from || from + bytes <= to;
    if (apart && bytes >= STREAMING_MIN_BYTES && __builtin_cpu_supports("avx")) {
        size_t head = -(uintptr_t)to % 32, most = (bytes - head) / STREAMING_STEP * STREAMING_STEP;
        memcpy(to, from, head);
        copy_streaming(to + head, from + head, most);
        to += head + most;
        from += head + most;
        bytes -= head + most;
    }
#endif
    memmove(to, from, bytes);
}

#endif
