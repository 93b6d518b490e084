/* The words of shared memory as variables of Relacy, and which of them several threads use. */
#ifndef MODEL_CELLS_HPP
#define MODEL_CELLS_HPP

#include "model/ground.hpp"

namespace {

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

} // namespace

#endif
