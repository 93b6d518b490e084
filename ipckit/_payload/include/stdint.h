#pragma once
#include <ipckit_types.h>

#define INT8_MIN (-128)
#define INT16_MIN (-32767 - 1)
#define INT32_MIN (-2147483647 - 1)
#define INT64_MIN (-__INT64_MAX__ - 1)
#define INT8_MAX 127
#define INT16_MAX 32767
#define INT32_MAX 2147483647
#define INT64_MAX __INT64_MAX__
#define UINT8_MAX 255
#define UINT16_MAX 65535
#define UINT32_MAX 4294967295U
#define UINT64_MAX __UINT64_MAX__
#define INTPTR_MIN (-__INTPTR_MAX__ - 1)
#define INTPTR_MAX __INTPTR_MAX__
#define UINTPTR_MAX __UINTPTR_MAX__
#define INTMAX_MIN (-__INTMAX_MAX__ - 1)
#define INTMAX_MAX __INTMAX_MAX__
#define UINTMAX_MAX __UINTMAX_MAX__
#define PTRDIFF_MIN (-__PTRDIFF_MAX__ - 1)
#define PTRDIFF_MAX __PTRDIFF_MAX__
#define SIZE_MAX __SIZE_MAX__
#define IPCKIT_PASTE_(value, suffix) value##suffix
#define IPCKIT_PASTE(value, suffix) IPCKIT_PASTE_(value, suffix)
#define INT8_C(value) value
#define INT16_C(value) value
#define INT32_C(value) value
#define UINT8_C(value) value
#define UINT16_C(value) value
#define UINT32_C(value) value##U
#define INT64_C(value) IPCKIT_PASTE(value, __INT64_C_SUFFIX__)
#define UINT64_C(value) IPCKIT_PASTE(value, __UINT64_C_SUFFIX__)
#define INTMAX_C(value) IPCKIT_PASTE(value, __INTMAX_C_SUFFIX__)
#define UINTMAX_C(value) IPCKIT_PASTE(value, __UINTMAX_C_SUFFIX__)
