/* The types of POSIX, as glibc has them on Linux. */
#ifndef IPCKIT_POSIX_H
#define IPCKIT_POSIX_H
#include <ipckit_types.h>

typedef unsigned char u_char;
typedef unsigned short u_short;
typedef unsigned int u_int;
typedef unsigned long u_long;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef __UINT8_TYPE__ u_int8_t;
typedef __UINT16_TYPE__ u_int16_t;
typedef __UINT32_TYPE__ u_int32_t;
typedef __UINT64_TYPE__ u_int64_t;

typedef int pid_t;
typedef unsigned int uid_t;
typedef unsigned int gid_t;
typedef unsigned int id_t;
typedef unsigned int mode_t;
typedef int key_t;
typedef int clockid_t;
typedef long clock_t;
typedef long suseconds_t;
typedef unsigned int useconds_t;
typedef unsigned int socklen_t;
typedef unsigned short sa_family_t;
typedef int mqd_t;
typedef __UINT64_TYPE__ dev_t;
typedef __INT64_TYPE__ off64_t;
typedef __INT64_TYPE__ loff_t;

#if defined(__LP64__) || !defined(_TIME_BITS) || _TIME_BITS != 64
typedef long time_t;
#else
typedef __INT64_TYPE__ time_t;
#endif

#if defined(__LP64__) || !defined(_FILE_OFFSET_BITS) || _FILE_OFFSET_BITS != 64
typedef long off_t;
typedef unsigned long ino_t;
typedef long blkcnt_t;
typedef unsigned long fsblkcnt_t;
typedef unsigned long fsfilcnt_t;
#else
typedef __INT64_TYPE__ off_t;
typedef __UINT64_TYPE__ ino_t;
typedef __INT64_TYPE__ blkcnt_t;
typedef __UINT64_TYPE__ fsblkcnt_t;
typedef __UINT64_TYPE__ fsfilcnt_t;
#endif

#if defined(__aarch64__) || defined(__riscv) || defined(__loongarch__)
typedef unsigned int nlink_t;
typedef int blksize_t;
#elif defined(__LP64__)
typedef unsigned long nlink_t;
typedef long blksize_t;
#else
typedef unsigned int nlink_t;
typedef long blksize_t;
#endif

struct timespec {
    time_t tv_sec;
#if !defined(__LP64__) && defined(_TIME_BITS) && _TIME_BITS == 64
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    int : 32;
    long tv_nsec;
#else
    long tv_nsec;
    int : 32;
#endif
#else
    long tv_nsec;
#endif
};

struct timeval {
    time_t tv_sec;
#if !defined(__LP64__) && defined(_TIME_BITS) && _TIME_BITS == 64
    __INT64_TYPE__ tv_usec;
#else
    long tv_usec;
#endif
};

#endif
