/* Sites in the source, and mutants: a weaker order, a barrier removed, a store delayed. */
#ifndef MODEL_MUTANTS_HPP
#define MODEL_MUTANTS_HPP

#include "model/cells.hpp"

namespace {

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

} // namespace

#endif
