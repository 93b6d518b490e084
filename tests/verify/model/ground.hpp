/* Relacy, the state of the run, and the trace of a failure. */
#ifndef MODEL_GROUND_HPP
#define MODEL_GROUND_HPP

#include "model.h"

#include <cerrno>
#include <climits>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iostream>
#include <new>
#include <sstream>
#include <sys/mman.h>

/* Relacy defines these anew, with other values. */
enum { ERROR_AGAIN = EAGAIN, ERROR_TIMED_OUT = ETIMEDOUT };

/* A cell is made in the middle of an execution, as if it had been there before: this needs the history that
   Relacy keeps to itself. */
#define private public
#define protected public
#include <relacy/relacy.hpp>
#undef private
#undef protected
/* Relacy defines assert, malloc and others for the tested code; this file is not tested code. */
#undef assert
#undef malloc
#undef free
#undef calloc
#undef realloc
#undef errno

namespace {

constexpr size_t MEMORY_MAX = 1 << 17;
constexpr int PASSES_MAX = 40;
constexpr int64_t START = 10 * INT64_C(1000000000);
constexpr int PAUSES_MAX = 300; /* so often time may pass in one execution: longer than OWN_CHECK_NS */
constexpr int PAUSES_STOPPED = 8; /* after so many a stopped process goes on */
constexpr int PEERS = 8;

constexpr int SCENARIOS_MAX = 200, POINTS_MAX = 200;

const model_scenario *scenarios[SCENARIOS_MAX], *scenario;
const char *scenario_files[SCENARIOS_MAX];
int scenario_count;
char *memory, *image; /* the shared memory, which nothing may touch while the model runs, and a copy */
size_t memory_size;
bool plain[MEMORY_MAX / 4];
bool running;  /* the model runs: accesses are steps */
bool checking; /* the scenario's `end` runs, alone */

int thread_now()
{
    return (int)rl::ctx().threadx_->index_;
}

const char *failure; /* why the last execution failed, if a check here or in the scenario found it */

[[noreturn]] void fail(const char *why)
{
    failure = why;
    rl::ctx().fail_test(why, rl::test_result_user_assert_failed, RL_INFO);
    abort();
}

bool tracing()
{
    return !scenario->fails && rl::ctx().collecting_history();
}

#define TRACE(...)                                                                                   \
    do {                                                                                             \
        if (tracing()) {                                                                             \
            fprintf(stderr, "  %d: ", thread_now());                                                 \
            fprintf(stderr, __VA_ARGS__);                                                            \
            fputc('\n', stderr);                                                                     \
        }                                                                                            \
    } while (0)

const char *base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != nullptr ? slash + 1 : path;
}

#define WHERE "%s %s: %s"
#define HERE(site) base((site)->file), (site)->function, (site)->text

} // namespace

#endif
