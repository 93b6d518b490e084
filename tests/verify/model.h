/* The steps of the model, for native/ring/ and the scenarios. model.cpp has them over Relacy. */
#ifndef MODEL_H
#define MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    MODEL_RELAXED,
    MODEL_ACQUIRE,
    MODEL_RELEASE,
    MODEL_ACQ_REL,
    MODEL_SEQ_CST,
} model_order;

typedef enum {
    MODEL_IS_LOAD,
    MODEL_IS_STORE,
    MODEL_IS_UPDATE,   /* a read-modify-write that always stores */
    MODEL_IS_EXCHANGE, /* compare and exchange */
    MODEL_IS_FENCE,
    MODEL_IS_MEMBARRIER,
} model_kind;

typedef enum { MODEL_EXCHANGE, MODEL_ADD, MODEL_AND, MODEL_OR } model_how;

/* One use of an atomic or a barrier in the source. */
typedef struct model_site {
    const char *file, *function, *text;
    int line;
    model_kind kind;
    model_order success, failure;
    /* Set by the model. */
    bool known;
    bool delayed; /* a mutant: the store comes after the thread's next store with release */
    bool removed; /* a mutant: the barrier does nothing */
    struct model_site *next;
} model_site;

uint64_t model_load(model_site *site, const void *word, size_t size);
void model_store(model_site *site, void *word, size_t size, uint64_t value);
uint64_t model_update(model_site *site, void *word, size_t size, model_how how, uint64_t value);
bool model_compare_exchange(model_site *site, void *word, size_t size, uint64_t *found, uint64_t value);
void model_fence(model_site *site);
bool model_membarrier(model_site *site);
bool model_has_membarrier(void);
void model_copy(char *to, const char *from, uint64_t length);

int64_t model_now(void);
int model_futex_wait(uint32_t *word, uint32_t expected, int64_t until_ns);
int model_futex_wake(uint32_t *word, int count);
bool model_lock_byte(int fd, int64_t at);
void model_unlock_byte(int fd, int64_t at);
bool model_byte_is_unlocked(int fd, int64_t at);
void model_point(const char *name);

/* -- scenarios --------------------------------------------------------------------------------- */

typedef struct {
    const char *name;
    const char *about;  /* what is to hold, in one line */
    int threads;        /* processes: 2 or 3 */
    int bound;          /* switches from a process that could go on, in `make verify` */
    int quick;          /* the same in `make check`; 0: not there */
    int deaths;         /* how many processes may die, each before any step that others see */
    int stops;          /* how many processes may be stopped, each before such a step */
    unsigned spared;    /* processes that neither die nor are stopped: a bit for each */
    bool time;          /* time passes also if no process died or was stopped: calls can time out */
    bool no_membarrier; /* the kernel has no membarrier(2) */
    bool fifo;          /* all have one priority: a futex wakes the one that has slept for longest */
    bool last_lacks_membarrier; /* the last process must not call it (seccomp), the others may */
    bool fails;         /* it must be found to fail: a check of the model */
    void (*prepare)(void);      /* once: makes the memory, joins the peers; nothing runs yet */
    void (*begin)(void);        /* before each execution; may be NULL */
    void (*thread)(int thread); /* one process */
    void (*end)(void);          /* after each execution, alone: checks; may be NULL */
} model_scenario;

void model_add(const model_scenario *scenario, const char *file);

/* Defines a scenario: SCENARIO(name) = {.threads = 2, ...}; */
#define SCENARIO(id)                                                                                 \
    static const model_scenario scenario_##id;                                                       \
    __attribute__((constructor)) static void add_##id(void)                                          \
    {                                                                                                \
        model_add(&scenario_##id, __FILE__);                                                         \
    }                                                                                                \
    static const model_scenario scenario_##id

/* Memory of zeros that the processes share. Race checks: two processes must not access a part of it that is
   marked as plain at the same time, except to read. */
void *model_memory(size_t size);
void model_plain(const void *start, size_t size);

/* In a scenario: whether a thread's process died. */
bool model_is_dead(int thread);
bool model_was_stopped(int thread);
bool model_any_death(void);
int model_thread(void); /* 0 in `prepare` */

/* Returns a number below `count`; each is tried. 0 in `prepare`. */
unsigned model_choose(unsigned count);

/* Ends the execution with a failure unless the condition holds. */
#define model_check(condition) model_check_that(condition, #condition, __FILE__, __LINE__)
void model_check_that(bool holds, const char *text, const char *file, int line);

#ifdef __cplusplus
}
#endif

#endif
