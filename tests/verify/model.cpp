/* Runs a scenario of MODEL_THREADS processes over the protocol of native/ring/ under Relacy: every order of
   the steps within the bounds, every value that a load may return by the memory orders of C11, and every
   death and stop.

       verify --list
       verify SCENARIO [--bound N | --full | --random N] [--mutant KEY@LINE=HOW] [--sites] [--points]

   Relacy checks data races of plain memory and deadlocks. The kernel is modelled here: futexes, the locks of
   peers, membarrier, the clock. */
#include "model/command.hpp"
#include "model/kernel.hpp"

/* -- what the tested code calls ------------------------------------------------------------------ */

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

/* -- what the scenarios call --------------------------------------------------------------------- */

void model_add(const model_scenario *added, const char *file)
{
    if (scenario_count == SCENARIOS_MAX) {
        abort();
    }
    scenario_files[scenario_count] = base(file);
    scenarios[scenario_count++] = added;
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
