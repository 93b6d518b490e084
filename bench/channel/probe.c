/* Measure the distance of two cores, and the copy speed of one.
 *
 * probe spin FIRST SECOND   nanoseconds of a round trip over one cache line, both cores spinning
 * probe copy CORE BYTES     bytes that memcpy moves in a nanosecond, between two buffers of BYTES
 *
 * Each result is the median of many short batches, so a few interruptions do not affect it.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__x86_64__) || defined(__i386__)
#define PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define PAUSE() __asm__ volatile("yield")
#else
#define PAUSE() ((void)0)
#endif

enum { BATCHES = 41, TRIPS = 200, LINE = 64, COPIES_NS = 40000000 };

static _Alignas(LINE) atomic_uint ball;
static int second_core;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void pin(int core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)core, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) {
        perror("probe: sched_setaffinity");
        exit(1);
    }
}

static int ascending(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, ascending);
    return values[count / 2];
}

/* Wait for a turn: odd turns are the second core's, even turns the first's. */
static void await(unsigned turn)
{
    while (atomic_load_explicit(&ball, memory_order_acquire) != turn) {
        PAUSE();
    }
}

static void *answer(void *unused)
{
    pin(second_core);
    for (unsigned turn = 1; turn < 2 * BATCHES * TRIPS; turn += 2) {
        await(turn);
        atomic_store_explicit(&ball, turn + 1, memory_order_release);
    }
    return unused;
}

static double spin(int first, int second)
{
    pthread_t other;
    double batches[BATCHES];
    unsigned turn = 0;
    second_core = second;
    pin(first);
    if (pthread_create(&other, NULL, answer, NULL) != 0) {
        fputs("probe: no second thread\n", stderr);
        exit(1);
    }
    for (size_t batch = 0; batch < BATCHES; batch++) {
        double start = now();
        for (int trip = 0; trip < TRIPS; trip++, turn += 2) {
            atomic_store_explicit(&ball, turn + 1, memory_order_release);
            await(turn + 2);
        }
        batches[batch] = (now() - start) / TRIPS;
    }
    pthread_join(other, NULL);
    return median(batches, BATCHES);
}

static double copy(int core, size_t size)
{
    enum { MOST = 4096 };
    static double rates[MOST];
    size_t count = 0;
    char *from = malloc(size), *to = malloc(size);
    if (from == NULL || to == NULL || size == 0) {
        fputs("probe: no memory\n", stderr);
        exit(1);
    }
    pin(core);
    memset(from, 1, size);
    memset(to, 2, size);
    for (double begin = now(); count < 5 || (count < MOST && now() - begin < COPIES_NS); count++) {
        double start = now();
        memcpy(to, from, size);
        __asm__ volatile("" : : "r"(to) : "memory");
        rates[count] = (double)size / (now() - start);
    }
    free(from);
    free(to);
    return median(rates, count);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "spin") == 0) {
        printf("%.2f\n", spin(atoi(argv[2]), atoi(argv[3])));
    } else if (argc == 4 && strcmp(argv[1], "copy") == 0) {
        printf("%.4f\n", copy(atoi(argv[2]), strtoull(argv[3], NULL, 10)));
    } else {
        fputs("usage: probe spin FIRST SECOND | probe copy CORE BYTES\n", stderr);
        return 2;
    }
    return 0;
}
