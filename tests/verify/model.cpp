/* Runs a scenario of MODEL_THREADS processes over the protocol of native/ring/ under Relacy: every order of the steps within the bounds,
   every value that a load may return by the memory orders of C11, and every death and stop.

       verify --list
       verify SCENARIO [--bound N | --full | --random N] [--mutant KEY@LINE=HOW] [--sites] [--points]

   Relacy checks data races of plain memory and deadlocks. The kernel is modelled here: futexes, the locks of
   peers, membarrier, the clock. */
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

/* -- cells ------------------------------------------------------------------------------------- */

using atomic_cell = rl::generic_atomic<uint64_t, false>;
using plain_cell = rl::var<uint32_t>;

/* What is known of a word over all executions: which threads read and wrote it. A word of one thread, and
   one that nobody changes, needs no switch before its steps. */
struct usage {
    unsigned readers, writers;
    bool contended; /* since before this pass */
};

usage words[MEMORY_MAX / 4], locks[PEERS];

bool becomes_contended(usage &word)
{
    unsigned all = word.readers | word.writers;
    bool becomes = !word.contended && word.writers != 0 && (all & (all - 1)) != 0;
    word.contended |= becomes;
    return becomes;
}

/* Returns whether more words are contended than at the start of the last pass. */
bool find_contended()
{
    bool more = false;
    for (usage &word : words) {
        more |= becomes_contended(word);
    }
    for (usage &lock : locks) {
        more |= becomes_contended(lock);
    }
    return more;
}

struct storage {
    alignas(16) char bytes[sizeof(atomic_cell) > sizeof(plain_cell) ? sizeof(atomic_cell)
                                                                    : sizeof(plain_cell)];
    bool made, is_plain;
    size_t size;
};

storage cells[MEMORY_MAX / 4 + PEERS];
uint32_t made[MEMORY_MAX / 4 + PEERS];
size_t made_count;

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

/* Gives an atomic its first value, which every thread knows. */
void set_first(atomic_cell &cell, uint64_t value)
{
    unsigned index = rl::ctx().threadx_->atomic_init(cell.impl_);
    auto *data = static_cast<rl::atomic_data_impl<MODEL_THREADS> *>(cell.impl_);
    for (auto &seen : data->history_[index].first_seen_order_) {
        seen = (rl::timestamp_t)-1;
    }
    cell.last_index_ = index;
    cell.initialized_ = true;
    cell.history_[index] = value;
    cell.value_ = value;
}

atomic_cell &atomic_at(size_t index, uint64_t first)
{
    storage &cell = cells[index];
    auto *atomic = reinterpret_cast<atomic_cell *>(cell.bytes);
    if (!cell.made) {
        new (atomic) atomic_cell();
        set_first(*atomic, first);
        cell.made = true;
        cell.is_plain = false;
        made[made_count++] = (uint32_t)index;
    }
    return *atomic;
}

plain_cell &plain_at(size_t index)
{
    storage &cell = cells[index];
    auto *var = reinterpret_cast<plain_cell *>(cell.bytes);
    if (!cell.made) {
        uint32_t first;
        memcpy(&first, image + index * 4, 4);
        new (var) plain_cell();
        var->value_ = first;
        var->initialized_ = true;
        auto *data = static_cast<rl::var_data_impl<MODEL_THREADS> *>(var->data_);
        for (int thread = 0; thread < MODEL_THREADS; thread++) {
            data->load_acq_rel_timestamp_[thread] = 0;
            data->store_acq_rel_timestamp_[thread] = 0;
        }
        cell.made = cell.is_plain = true;
        made[made_count++] = (uint32_t)index;
    }
    return *var;
}

void destroy_cells()
{
    for (size_t at = 0; at < made_count; at++) {
        storage &cell = cells[made[at]];
        if (cell.is_plain) {
            reinterpret_cast<plain_cell *>(cell.bytes)->~plain_cell();
        } else {
            reinterpret_cast<atomic_cell *>(cell.bytes)->~atomic_cell();
        }
        cell.made = false;
    }
    made_count = 0;
}

bool is_shared(const void *address)
{
    return (const char *)address >= memory && (const char *)address < memory + memory_size;
}

size_t index_of(const void *address)
{
    return (size_t)((const char *)address - memory) / 4;
}

uint64_t first_value(size_t index, size_t size)
{
    uint64_t value = 0;
    memcpy(&value, image + index * 4, size);
    return value;
}

/* Notes an access, and switches threads before it only if others are concerned. */
class step {
public:
    step(usage &word, bool writes)
    {
        if (checking) {
            return;
        }
        unsigned bit = 1u << thread_now();
        (writes ? word.writers : word.readers) |= bit;
        quiet = !word.contended;
        if (quiet) {
            rl::ctx().disable_preemption();
        }
    }
    ~step()
    {
        if (quiet) {
            rl::ctx().enable_preemption();
        }
    }

private:
    bool quiet = false;
};

/* -- the trace of a failure -------------------------------------------------------------------- */

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

/* -- sites and mutants ------------------------------------------------------------------------- */

model_site *sites;
const char *mutant; /* "FILE FUNCTION: TEXT=HOW", or "FILE FUNCTION: TEXT@LINE=HOW" for one of several uses */
bool mutant_met;

model_order weaker(const char *name)
{
    static const char *const names[] = {"relaxed", "acquire", "release", "acq_rel", "seq_cst"};
    for (int order = 0; order < 5; order++) {
        if (strcmp(names[order], name) == 0) {
            return (model_order)order;
        }
    }
    fprintf(stderr, "verify: %s is no order\n", name);
    exit(2);
}

/* Returns the rest of the mutant's text after the prefix, or null if it begins otherwise. */
const char *mutant_after(const char *prefix, int length)
{
    return mutant != nullptr && strncmp(mutant, prefix, (size_t)length) == 0 ? mutant + length : nullptr;
}

/* Applies the mutant to the site if it is that one. The checks at the end run alone: their sites do not count. */
void meet(model_site *site)
{
    if (site->known || checking) {
        return;
    }
    site->known = true;
    site->next = sites;
    sites = site;
    char all[512], one[512];
    int all_length = snprintf(all, sizeof all, WHERE "=", HERE(site));
    int one_length = snprintf(one, sizeof one, WHERE "@%d=", HERE(site), site->line);
    const char *how = mutant_after(all, all_length);
    how = how != nullptr ? how : mutant_after(one, one_length);
    if (how == nullptr) {
        return;
    }
    mutant_met = true;
    if (strcmp(how, "removed") == 0) {
        site->removed = true;
    } else if (strcmp(how, "delayed") == 0) {
        site->delayed = true;
    } else if (strcmp(how, "failure-relaxed") == 0) {
        site->failure = MODEL_RELAXED;
    } else {
        site->success = weaker(how);
        if (site->kind == MODEL_IS_EXCHANGE && site->success != MODEL_SEQ_CST
            && site->failure != MODEL_RELAXED) {
            site->failure = MODEL_RELAXED;
        }
    }
}

rl::memory_order order_of(model_order order)
{
    static const rl::memory_order orders[] = {rl::mo_relaxed, rl::mo_acquire, rl::mo_release,
                                              rl::mo_acq_rel, rl::mo_seq_cst};
    return orders[order];
}

/* A store that a mutant delays behind the thread's next store with release, or a system call. */
struct pending_store {
    model_site *site;
    char *word;
    size_t size;
    uint64_t value;
} pending[MODEL_THREADS];

void store_now(model_site *site, char *word, size_t size, uint64_t value);

void may_end_here();

/* A process may die before a store that a mutant delayed. */
void perform_pending()
{
    if (pending[thread_now()].site != nullptr) {
        may_end_here();
    }
    pending_store late = pending[thread_now()];
    if (late.site != nullptr) {
        pending[thread_now()].site = nullptr;
        store_now(late.site, late.word, late.size, late.value);
    }
}

/* Before a read of the word: a thread sees its own stores. */
void perform_pending_of(const void *word)
{
    pending_store &late = pending[thread_now()];
    if (late.site != nullptr && (const char *)word < late.word + late.size
        && late.word < (const char *)word + 8) {
        perform_pending();
    }
}

void store_now(model_site *site, char *word, size_t size, uint64_t value)
{
    size_t index = index_of(word);
    if (plain[index]) {
        TRACE(WHERE " is plain memory", HERE(site));
        for (size_t part = 0; part < size / 4; part++) {
            plain_at(index + part).store((uint32_t)(value >> 32 * part), RL_INFO);
        }
    } else {
        step here(words[index], true);
        atomic_at(index, first_value(index, size)).store(value, order_of(site->success), RL_INFO);
    }
    TRACE(WHERE " = %#llx", HERE(site), (unsigned long long)value);
}

/* -- processes: sleep, death, stop, time ------------------------------------------------------- */

struct process {
    jmp_buf top;
    bool dead, finished, parked, stopped, was_stopped, timed_out;
    uint32_t *word; /* that it sleeps on */
    int asleep_since; /* the number of its sleep */
    int64_t until;
};

process processes[MODEL_THREADS];
int64_t now;
int pauses, deaths, stops, sleeps;
int lock_holders[PEERS], first_holders[PEERS]; /* descriptor, or -1; first_holders: after `prepare` */

void park()
{
    rl::ctx().park_current_thread(false, false, false, RL_INFO);
}

void unpark(int thread)
{
    processes[thread].parked = false;
    processes[thread].word = nullptr;
    rl::ctx().unpark_thread((rl::thread_id_t)thread, false, RL_INFO);
}

bool somebody_runs()
{
    for (int thread = 0; thread < scenario->threads; thread++) {
        if (!processes[thread].finished && !processes[thread].parked) {
            return true;
        }
    }
    return false;
}

rl::thread_info<MODEL_THREADS> &relacy_thread(int thread)
{
    using threads = rl::aligned<rl::thread_info<MODEL_THREADS>>;
    auto *self = static_cast<threads *>(static_cast<rl::thread_info<MODEL_THREADS> *>(rl::ctx().threadx_));
    return self[thread - thread_now()];
}

/* A store is seen by all within the milliseconds that pass: a process that has read an older value before
   does not read it again. Orders nothing else. */
void let_stores_arrive()
{
    for (int thread = 0; thread < scenario->threads; thread++) {
        rl::thread_info<MODEL_THREADS> &info = relacy_thread(thread);
        info.last_yield_ = info.own_acq_rel_order_;
    }
}

/* Called when nobody runs: the first sleeper's time is over, or a stopped process goes on. Returns which
   thread goes on, or -1 if all have finished. It is not unparked yet. */
int let_time_pass()
{
    int first = -1, stopped = -1;
    for (int thread = 0; thread < scenario->threads; thread++) {
        if (processes[thread].finished) {
            continue;
        }
        if (processes[thread].stopped) {
            stopped = thread;
        } else if (first < 0 || processes[thread].until < processes[first].until) {
            first = thread;
        }
    }
    if (stopped >= 0 && (first < 0 || pauses >= PAUSES_STOPPED || processes[first].until == INT64_MAX)) {
        processes[stopped].stopped = false;
        TRACE("thread %d is continued", stopped);
        return stopped;
    }
    if (first < 0) {
        return -1;
    }
    if (!scenario->time && deaths == 0 && stops == 0) {
        fail("all sleep, and nobody died: a wake was lost");
    }
    if (processes[first].until == INT64_MAX || pauses++ > PAUSES_MAX) {
        fail("nobody goes on, however long it takes");
    }
    now = processes[first].until > now ? processes[first].until : now;
    processes[first].timed_out = true;
    let_stores_arrive();
    TRACE("time passes, thread %d looks again", first);
    return first;
}

/* Parks this thread until another unparks it. */
void sleep_here()
{
    process &self = processes[thread_now()];
    self.parked = true;
    if (!somebody_runs()) {
        int next = let_time_pass();
        if (next == thread_now()) {
            self.parked = false;
            self.word = nullptr;
            return;
        }
        unpark(next);
    }
    park();
}

void finish()
{
    processes[thread_now()].finished = true;
    if (!somebody_runs()) {
        int next = let_time_pass();
        if (next >= 0) {
            unpark(next);
        }
    }
}

const char *last_point[MODEL_THREADS]; /* RING_POINT */
const char *points[POINTS_MAX];        /* those that were reached */
int point_count;
bool show_points;

void note_point(const char *name)
{
    for (int index = 0; index < point_count; index++) {
        if (strcmp(points[index], name) == 0) {
            return;
        }
    }
    if (point_count < POINTS_MAX) {
        points[point_count++] = name;
    }
}

/* A step in the kernel that reads or changes the lock of a place. The kernel's own lock orders these steps. */
atomic_cell &kernel_cell(int64_t at)
{
    int place = (int)(at & (PEERS - 1));
    return atomic_at(MEMORY_MAX / 4 + (size_t)place, 0);
}

void kernel_step(int64_t at, bool writes)
{
    int place = (int)(at & (PEERS - 1));
    step here(locks[place], writes);
    kernel_cell(at).rmw(rl::rmw_type_t<rl::rmw_type_add>(), (uint64_t)0, rl::mo_acq_rel, RL_INFO);
}

[[noreturn]] void die()
{
    TRACE("is killed here, after the point %s", last_point[thread_now()]);
    deaths++;
    processes[thread_now()].dead = true;
    pending[thread_now()].site = nullptr;
    for (int place = 0; place < PEERS; place++) {
        if (lock_holders[place] == thread_now()) {
            kernel_step(place, true);
            lock_holders[place] = -1;
        }
    }
    _longjmp(processes[thread_now()].top, 1);
}

void stop()
{
    TRACE("is stopped here, after the point %s", last_point[thread_now()]);
    stops++;
    processes[thread_now()].stopped = processes[thread_now()].was_stopped = true;
    processes[thread_now()].until = INT64_MAX;
    sleep_here();
}

/* Called before each step that others can see. A process may die or be stopped there. So it may at each
   RING_POINT: between a point and the next such step nothing happens that others can see. */
void may_end_here()
{
    if (checking || (scenario->spared >> thread_now() & 1) != 0) {
        return;
    }
    bool may_die = deaths < scenario->deaths, may_stop = stops < scenario->stops;
    if (!may_die && !may_stop) {
        return;
    }
    unsigned chosen = rl::rand(1u + may_die + may_stop);
    if (chosen == 1 && may_die) {
        die();
    } else if (chosen != 0) {
        stop();
    }
}

/* -- Relacy ------------------------------------------------------------------------------------ */

struct suite : rl::test_suite<suite, MODEL_THREADS> {
    void before()
    {
        for (; made_count != 0; made_count--) { /* of an execution that failed */
            cells[made[made_count - 1]].made = false;
        }
        checking = false; /* true after an execution that failed at its end */
        now = START;
        pauses = deaths = stops = sleeps = 0;
        for (int thread = 0; thread < MODEL_THREADS; thread++) {
            processes[thread] = process();
            pending[thread].site = nullptr;
            last_point[thread] = "(none)";
        }
        for (int place = 0; place < PEERS; place++) {
            lock_holders[place] = first_holders[place];
        }
        if (scenario->begin != nullptr) {
            scenario->begin();
        }
    }
    void thread(unsigned index)
    {
        if (_setjmp(processes[index].top) == 0) {
            scenario->thread((int)index);
            perform_pending();
        }
        finish();
    }
    void after()
    {
        checking = true;
        if (scenario->end != nullptr) {
            scenario->end();
        }
        checking = false;
        destroy_cells();
    }
    void invariant() {}
};

} // namespace

void model_add(const model_scenario *added, const char *file)
{
    if (scenario_count == SCENARIOS_MAX) {
        abort();
    }
    scenario_files[scenario_count] = base(file);
    scenarios[scenario_count++] = added;
}

/* -- what the tested code calls ---------------------------------------------------------------- */

#define WHOLE(size) ((size) == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * (size)) - 1)

static uint64_t direct_load(const void *word, size_t size)
{
    uint64_t value = 0;
    memcpy(&value, word, size);
    return value;
}

uint64_t model_load(model_site *site, const void *word, size_t size)
{
    if (!running || !is_shared(word)) {
        return direct_load(word, size);
    }
    meet(site);
    perform_pending_of(word);
    size_t index = index_of(word);
    uint64_t value = 0;
    if (plain[index]) {
        TRACE(WHERE " is plain memory", HERE(site));
        for (size_t part = 0; part < size / 4; part++) {
            value |= (uint64_t)plain_at(index + part).load(RL_INFO) << 32 * part;
        }
    } else {
        step here(words[index], false);
        value = atomic_at(index, first_value(index, size)).load(order_of(site->success), RL_INFO);
    }
    TRACE(WHERE " is %#llx", HERE(site), (unsigned long long)value);
    return value;
}

void model_store(model_site *site, void *word, size_t size, uint64_t value)
{
    value &= WHOLE(size);
    if (!running || !is_shared(word)) {
        memcpy(word, &value, size);
        return;
    }
    meet(site);
    if (!plain[index_of(word)]) {
        may_end_here();
    }
    pending_store &late = pending[thread_now()];
    if (late.site != nullptr && late.word == word) {
        perform_pending();
    }
    if (site->delayed && late.site == nullptr) {
        late = {site, (char *)word, size, value};
        return;
    }
    store_now(site, (char *)word, size, value);
    if (site->success != MODEL_RELAXED) {
        perform_pending();
    }
}

static uint64_t updated(model_how how, uint64_t before, uint64_t value)
{
    return how == MODEL_ADD ? before + value
        : how == MODEL_AND  ? before & value
        : how == MODEL_OR   ? before | value
                            : value;
}

uint64_t model_update(model_site *site, void *word, size_t size, model_how how, uint64_t value)
{
    if (!running || !is_shared(word)) {
        uint64_t before = direct_load(word, size), after = updated(how, before, value);
        memcpy(word, &after, size);
        return before;
    }
    meet(site);
    may_end_here();
    perform_pending_of(word);
    size_t index = index_of(word);
    rl::memory_order order = order_of(site->success);
    uint64_t before = 0;
    {
        step here(words[index], true);
        atomic_cell &cell = atomic_at(index, first_value(index, size));
        switch (how) {
        case MODEL_ADD: {
            /* The sum must not have more bits than the word. */
            uint64_t sum = (cell.debug_value() + value) & WHOLE(size);
            before = cell.rmw(rl::rmw_type_t<rl::rmw_type_add>(), value, order, RL_INFO);
            sum = (before + value) & WHOLE(size);
            cell.value_ = cell.history_[cell.last_index_] = sum;
            break;
        }
        case MODEL_AND:
            before = cell.rmw(rl::rmw_type_t<rl::rmw_type_and>(), value, order, RL_INFO);
            break;
        case MODEL_OR:
            before = cell.rmw(rl::rmw_type_t<rl::rmw_type_or>(), value, order, RL_INFO);
            break;
        case MODEL_EXCHANGE:
            before = cell.rmw(rl::rmw_type_t<rl::rmw_type_swap>(), value, order, RL_INFO);
            break;
        }
    }
    TRACE(WHERE " was %#llx, %#llx", HERE(site), (unsigned long long)before, (unsigned long long)value);
    perform_pending();
    return before;
}

bool model_compare_exchange(model_site *site, void *word, size_t size, uint64_t *found, uint64_t value)
{
    if (!running || !is_shared(word)) {
        uint64_t before = direct_load(word, size);
        bool same = before == *found;
        *found = before;
        if (same) {
            memcpy(word, &value, size);
        }
        return same;
    }
    meet(site);
    may_end_here();
    perform_pending_of(word);
    size_t index = index_of(word);
    uint64_t expected = *found;
    bool stored;
    {
        step here(words[index], true);
        stored = atomic_at(index, first_value(index, size))
                     .compare_exchange(rl::bool_t<false>(), *found, value, order_of(site->success),
                                       order_of(site->failure), RL_INFO);
    }
    TRACE(WHERE " %#llx to %#llx: %s", HERE(site), (unsigned long long)expected,
          (unsigned long long)value, stored ? "yes" : "no");
    if (stored) {
        perform_pending();
    }
    return stored;
}

void model_fence(model_site *site)
{
    if (!running) {
        return;
    }
    meet(site);
    if (site->removed) {
        return;
    }
    TRACE(WHERE, HERE(site));
    switch (site->success) {
    case MODEL_ACQUIRE:
        rl::ctx().atomic_thread_fence_acquire();
        break;
    case MODEL_RELEASE:
        rl::ctx().atomic_thread_fence_release();
        break;
    case MODEL_ACQ_REL:
        rl::ctx().atomic_thread_fence_acq_rel();
        break;
    default:
        rl::ctx().atomic_thread_fence_seq_cst();
    }
}

static void full_fence_of(int thread)
{
    relacy_thread(thread).atomic_thread_fence_seq_cst(rl::ctx().seq_cst_fence_order_);
}

bool model_has_membarrier(void)
{
    bool lacks = running && scenario->last_lacks_membarrier && thread_now() == scenario->threads - 1;
    return !scenario->no_membarrier && !lacks;
}

/* membarrier(2): each process that registered performs a full fence where it is now, which can be anywhere. */
bool model_membarrier(model_site *site)
{
    if (!model_has_membarrier()) {
        return false;
    }
    if (!running) {
        return true;
    }
    meet(site);
    if (site->removed) {
        return true;
    }
    rl::ctx().atomic_thread_fence_seq_cst(); /* with a switch before it */
    for (int thread = 0; thread < scenario->threads - scenario->last_lacks_membarrier; thread++) {
        full_fence_of(thread);
    }
    full_fence_of(thread_now());
    TRACE("membarrier_all()");
    return true;
}

/* Copies by 4 bytes: plain memory to find races, other memory as relaxed atomics. The rest is copied as a
   word of 4 bytes whose other bytes are 0. */
void model_copy(char *to, const char *from, uint64_t length)
{
    if (!running || (!is_shared(to) && !is_shared(from))) {
        memcpy(to, from, length);
        return;
    }
    static model_site in = {__FILE__, "copy_shared", "copy_shared", 0, MODEL_IS_STORE,
                            MODEL_RELAXED, MODEL_RELAXED, true, false, false, nullptr};
    static model_site out = {__FILE__, "copy_shared", "copy_shared", 0, MODEL_IS_LOAD,
                             MODEL_RELAXED, MODEL_RELAXED, true, false, false, nullptr};
    for (uint64_t at = 0; at < length; at += 4) {
        size_t part = length - at < 4 ? length - at : 4;
        uint32_t value = 0;
        if (is_shared(from)) {
            value = (uint32_t)model_load(&out, from + at, 4);
        } else {
            memcpy(&value, from + at, part);
        }
        if (is_shared(to)) {
            model_store(&in, to + at, 4, value);
        } else {
            memcpy(to + at, &value, part);
        }
    }
}

int64_t model_now(void)
{
    return running ? now : START;
}

/* The kernel compares the word and begins the sleep in one step, after a full barrier. */
int model_futex_wait(uint32_t *word, uint32_t expected, int64_t until_ns)
{
    if (checking) {
        fail("at the end, a lock is still held");
    }
    may_end_here();
    process &self = processes[thread_now()];
    perform_pending();
    size_t index = index_of(word);
    rl::ctx().atomic_thread_fence_seq_cst();
    words[index].readers |= 1u << thread_now();
    rl::ctx().disable_preemption();
    uint32_t value = (uint32_t)atomic_at(index, first_value(index, 4)).load(rl::mo_relaxed, RL_INFO);
    rl::ctx().enable_preemption();
    if (value != expected) {
        TRACE("futex_wait: the word is %#x, not %#x", value, expected);
        return ERROR_AGAIN;
    }
    TRACE("futex_wait: sleeps at %#zx", index * 4);
    self.word = word;
    self.until = until_ns;
    self.timed_out = false;
    self.asleep_since = sleeps++;
    sleep_here();
    /* The scheduler's barriers: a thread that was woken sees what its waker had stored. */
    rl::ctx().atomic_thread_fence_seq_cst();
    TRACE("futex_wait: %s", self.timed_out ? "timed out" : "woken");
    return self.timed_out ? ERROR_TIMED_OUT : 0;
}

int model_futex_wake(uint32_t *word, int count)
{
    if (!running || checking) {
        return 0;
    }
    may_end_here();
    perform_pending();
    rl::ctx().atomic_thread_fence_seq_cst();
    int woken = 0;
    for (; woken < count; woken++) {
        int sleepers[MODEL_THREADS], found = 0;
        for (int thread = 0; thread < scenario->threads; thread++) {
            if (processes[thread].parked && processes[thread].word == word) {
                sleepers[found++] = thread;
            }
        }
        if (found == 0) {
            break;
        }
        /* Any of them: the kernel prefers those of higher priority. Of one priority, it wakes the first. */
        int chosen = sleepers[found > 1 && !scenario->fifo ? rl::rand((unsigned)found) : 0];
        for (int at = 1; scenario->fifo && at < found; at++) {
            bool earlier = processes[sleepers[at]].asleep_since < processes[chosen].asleep_since;
            chosen = earlier ? sleepers[at] : chosen;
        }
        TRACE("futex_wake: wakes thread %d", chosen);
        unpark(chosen);
    }
    return woken;
}

bool model_lock_byte(int fd, int64_t at)
{
    int place = (int)(at & (PEERS - 1));
    if ((at & 0xffff) >= PEERS) {
        return false;
    }
    if (!running) {
        bool free = lock_holders[place] < 0;
        lock_holders[place] = free ? fd : lock_holders[place];
        return free;
    }
    may_end_here();
    kernel_step(at, true);
    bool free = lock_holders[place] < 0 || lock_holders[place] == fd;
    lock_holders[place] = free ? fd : lock_holders[place];
    TRACE("takes the lock of place %d: %s", place, free ? "yes" : "no");
    return free;
}

void model_unlock_byte(int fd, int64_t at)
{
    int place = (int)(at & (PEERS - 1));
    if (running) {
        may_end_here();
        kernel_step(at, true);
        TRACE("releases the lock of place %d", place);
    }
    if (lock_holders[place] == fd) {
        lock_holders[place] = -1;
    }
}

bool model_byte_is_unlocked(int fd, int64_t at)
{
    int place = (int)(at & (PEERS - 1));
    if ((at & 0xffff) >= PEERS) {
        return true;
    }
    if (running) {
        kernel_step(at, false);
    }
    bool free = lock_holders[place] < 0 || lock_holders[place] == fd;
    TRACE("the lock of place %d is %s", place, free ? "free" : "held");
    return free;
}

void model_point(const char *name)
{
    if (running && !checking) {
        last_point[thread_now()] = name;
        if (show_points) {
            note_point(name);
        }
    }
}

void *model_memory(size_t size)
{
    memory_size = (size + 4095) / 4096 * 4096;
    if (memory_size > MEMORY_MAX) {
        fprintf(stderr, "verify: MEMORY_MAX is too small for %zu bytes\n", size);
        exit(2);
    }
    memory = (char *)mmap(nullptr, memory_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory;
}

void model_plain(const void *start, size_t size)
{
    for (size_t at = 0; at < size; at += 4) {
        plain[index_of((const char *)start + at)] = true;
    }
}

bool model_is_dead(int thread)
{
    return thread < MODEL_THREADS && processes[thread].dead;
}

bool model_was_stopped(int thread)
{
    return thread < MODEL_THREADS && processes[thread].was_stopped;
}

bool model_any_death(void)
{
    return deaths != 0;
}

int model_thread(void)
{
    return running ? thread_now() : 0;
}

unsigned model_choose(unsigned count)
{
    return running && count > 1 ? rl::rand(count) : 0;
}

void model_check_that(bool holds, const char *text, const char *file, int line)
{
    if (!holds) {
        static char why[512];
        snprintf(why, sizeof why, "%s:%d: not true: %s", base(file), line, text);
        fail(why);
    }
}

/* -- the command ------------------------------------------------------------------------------- */

static void print_mutant(const model_site *site, const char *how)
{
    printf("%d\t" WHERE "=%s\n", site->line, HERE(site), how);
}

/* Prints each mutant of the sites that ran, after the line of its site. */
static void print_sites(void)
{
    for (const model_site *site = sites; site != nullptr; site = site->next) {
        bool barrier = site->kind == MODEL_IS_FENCE || site->kind == MODEL_IS_MEMBARRIER;
        if (barrier) {
            print_mutant(site, "removed");
        }
        if (site->kind == MODEL_IS_STORE) {
            print_mutant(site, "delayed");
        }
        if (site->kind == MODEL_IS_EXCHANGE && site->failure != MODEL_RELAXED) {
            print_mutant(site, "failure-relaxed");
        }
        if (barrier || site->success == MODEL_RELAXED) {
            continue;
        }
        bool loads = site->kind != MODEL_IS_STORE, stores = site->kind != MODEL_IS_LOAD;
        if (site->success == MODEL_SEQ_CST) {
            print_mutant(site, loads && stores ? "acq_rel" : loads ? "acquire" : "release");
        }
        if (loads && stores && (site->success == MODEL_ACQ_REL || site->success == MODEL_SEQ_CST)) {
            print_mutant(site, "acquire");
            print_mutant(site, "release");
        }
        print_mutant(site, "relaxed");
    }
}

static void print_points(void)
{
    for (int index = 0; index < point_count; index++) {
        printf("%s\n", points[index]);
    }
}

/* Prints one line for each scenario: its name, file, numbers and what holds, between tabs. */
static void print_list(void)
{
    for (int index = 0; index < scenario_count; index++) {
        const model_scenario *one = scenarios[index];
        if (one->threads == MODEL_THREADS) {
            printf("%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", one->name, scenario_files[index], one->threads,
                   one->deaths, one->stops, one->fails, one->bound, one->quick, one->about);
        }
    }
}

static int usage_error(void)
{
    fprintf(stderr, "usage: verify --list | SCENARIO [--bound N | --full | --random N] "
                    "[--mutant KEY@LINE=HOW] [--sites] [--points] [--quiet]\n");
    return 2;
}

/* Of this process: other load of the machine does not count. */
static double seconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int count, char **arguments)
{
    rl::test_params params;
    std::ostream ignored(nullptr);
    bool show_sites = false, quiet = false;
    const char *name = nullptr;
    int bound = -1;
    char mode[32] = "";
    params.search_type = rl::sched_bound;
    params.execution_depth_limit = 20000;
    params.output_stream = params.progress_stream = &ignored;
    for (int at = 1; at < count; at++) {
        const char *word = arguments[at];
        if (strcmp(word, "--list") == 0) {
            print_list();
            return 0;
        } else if (strcmp(word, "--bound") == 0 && at + 1 < count) {
            bound = atoi(arguments[++at]);
        } else if (strcmp(word, "--full") == 0) {
            params.search_type = rl::sched_full;
        } else if (strcmp(word, "--random") == 0 && at + 1 < count) {
            params.search_type = rl::sched_random;
            params.iteration_count = strtoul(arguments[++at], nullptr, 10);
        } else if (strcmp(word, "--mutant") == 0 && at + 1 < count) {
            mutant = arguments[++at];
        } else if (strcmp(word, "--sites") == 0) {
            show_sites = true;
        } else if (strcmp(word, "--points") == 0) {
            show_points = true;
        } else if (strcmp(word, "--quiet") == 0) {
            quiet = true;
        } else if (word[0] != '-' && name == nullptr) {
            name = word;
        } else {
            return usage_error();
        }
    }
    for (int index = 0; name != nullptr && index < scenario_count; index++) {
        bool same = scenarios[index]->threads == MODEL_THREADS && strcmp(scenarios[index]->name, name) == 0;
        scenario = same ? scenarios[index] : scenario;
    }
    if (scenario == nullptr) {
        return usage_error();
    }
    params.context_bound = (unsigned)(bound >= 0 ? bound : scenario->bound);
    for (int &holder : lock_holders) {
        holder = -1;
    }
    scenario->prepare();
    memcpy(first_holders, lock_holders, sizeof first_holders);
    image = (char *)mmap(nullptr, memory_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(image, memory, memory_size);
    mprotect(memory, memory_size, PROT_NONE); /* an access that is no step ends the program */
    double start = seconds();
    bool holds = true;
    uint64_t executions = 0;
    int passes = 0;
    running = true;
    /* Again as long as words turn out to be contended, because no switches were tried before them. */
    do {
        rl::test_params pass = params;
        holds = rl::simulate<suite>(pass);
        executions = (uint64_t)pass.stop_iteration;
        params.test_result = pass.test_result;
    } while (holds && find_contended() && ++passes < PASSES_MAX);
    running = false;
    if (params.search_type == rl::sched_bound) {
        snprintf(mode, sizeof mode, "%u switches", params.context_bound);
    } else {
        snprintf(mode, sizeof mode, "%s", params.search_type == rl::sched_full ? "all switches" : "random");
    }
    if (mutant != nullptr && !mutant_met) {
        fprintf(stderr, "verify: no site is %s\n", mutant);
        return 3;
    }
    if (!quiet) {
        const char *why = failure != nullptr ? failure : rl::test_result_str(params.test_result);
        printf("%-28s %-12s %10llu executions %7.2f s  %s%s\n", scenario->name, mode,
               (unsigned long long)executions, seconds() - start,
               holds == scenario->fails ? "WRONG: " : scenario->fails ? "found: " : "",
               holds ? "holds" : why);
    }
    if (show_sites) {
        print_sites();
    }
    if (show_points) {
        print_points();
    }
    return holds != scenario->fails ? 0 : 1;
}
