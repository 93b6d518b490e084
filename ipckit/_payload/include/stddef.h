#pragma once
#include <ipckit_types.h>
#ifndef NULL
#define NULL ((void *)0)
#endif
#ifndef offsetof
#define offsetof(type, member) __builtin_offsetof(type, member)
#endif
typedef struct {
    long long max_align_integer __attribute__((__aligned__(__alignof__(long long))));
    long double max_align_float __attribute__((__aligned__(__alignof__(long double))));
#ifdef __i386__
    __float128 max_align_wide __attribute__((__aligned__(__alignof(__float128))));
#endif
} max_align_t;
