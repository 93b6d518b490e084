/* Reclaiming what dead peers had: loans, views, and places among the peers. Each function
   requires send_lock and receive_lock, taken in this order. No Python.h here. */
#ifndef IPCKIT_RING_RECOVER_H
#define IPCKIT_RING_RECOVER_H

#include "ring/receive.h"
#include "ring/send.h"

/* Calls `visit` for each record between two positions. Returns RING_OK, or RING_CORRUPT if a
   record is invalid or `visit` returns false. */
typedef bool (*ring_visitor)(ring *r, uint64_t position, const record_info *info, uint64_t *data);

static inline ring_result
ring_visit_records(ring *r, uint64_t from, uint64_t to, ring_visitor visit, uint64_t *data)
{
    if (!ring_position_is_valid(r, from) || !ring_position_is_valid(r, to)
        || ring_distance(r, from, to) > r->units) {
        return RING_CORRUPT;
    }
    while (from != to) {
        record_info info;
        if (!ring_read_record(r, from, ring_distance(r, from, to), &info)
            || !visit(r, from, &info, data)) {
            return RING_CORRUPT;
        }
        from = ring_advance(r, from, info.units);
    }
    return RING_OK;
}

/* Recovery is a mark and sweep over the records. A sent loan that no RECORD_REF refers to was
   taken by a peer that died before it freed the loan. So: unmark all sent loans, mark those that
   a waiting RECORD_REF refers to, and free the others.

   recover_unmark: an earlier recovery may have died and left marks. */
static inline bool
recover_unmark(ring *r, uint64_t position, const record_info *info, uint64_t *data)
{
    (void)data;
    if (info->kind == RECORD_MARKED) {
        ring_set_record_state(r, position, RECORD_SENT, info->owner);
    }
    return true;
}

/* Marks the sent loan that a waiting RECORD_REF refers to, and makes a view at head a message again. */
static inline bool
recover_mark(ring *r, uint64_t position, const record_info *info, uint64_t *data)
{
    (void)data;
    ring_message message;
    record_info target = *info;
    if (info->kind == RECORD_REF) {
        if (!ring_follow_ref(r, position, &message, &target)) {
            return false;
        }
        ring_set_record_state(r, message.at, RECORD_MARKED, target.owner);
        RING_POINT(marking);
    } else if (info->kind == RECORD_VIEW) {
        /* Head has not passed it, so its receiver died before it took the message. */
        ring_set_record_state(r, position, RECORD_DATA, info->owner);
    }
    return true;
}

/* Frees the loans and views of dead peers and unmarked sent loans; counts the living loans. */
static inline bool
recover_sweep(ring *r, uint64_t position, const record_info *info, uint64_t *loans)
{
    bool valid = true;
    if (info->kind == RECORD_LOAN || info->kind == RECORD_VIEW) {
        if (ring_owner_is_dead(r, info->owner, &valid)) {
            ring_set_record_state(r, position, RECORD_FREE, info->owner);
            RING_POINT(sweeping);
        } else {
            *loans += info->kind == RECORD_LOAN;
        }
    } else if (info->kind == RECORD_MARKED) {
        ring_set_record_state(r, position, RECORD_SENT, info->owner);
    } else if (info->kind == RECORD_SENT) {
        ring_set_record_state(r, position, RECORD_FREE, info->owner);
    }
    return valid;
}

/* Frees the records of all dead peers, and counts the loans again. Clears recovery_wanted first,
   so that a peer that dies during the recovery asks for another one. Every prefix leaves a valid
   ring. Returns RING_OK or RING_CORRUPT. */
static inline ring_result
ring_recover(ring *r)
{
    channel_header *shared = r->shared;
    __atomic_store_n(&shared->recovery_wanted, 0, __ATOMIC_RELEASE);
    RING_POINT(recovering);
    ring_side_state(r, 0);
    RING_POINT(peers_checked);
    ring_space space;
    ring_result result = ring_measure_space(r, true, &space);
    if (result != RING_OK) {
        return result;
    }
    uint64_t head = position_of(load_word(&shared->head)), loans = 0;
    uint64_t tail = position_of(space.tail);
    /* While there are loans, records after the last of them that were not sent belong to no
       peer. */
    uint64_t end = space.loans != 0 ? space.alloc : tail;
    result = ring_visit_records(r, space.free, end, recover_unmark, NULL);
    if (result == RING_OK) {
        RING_POINT(unmarked);
        result = ring_visit_records(r, head, tail, recover_mark, NULL);
    }
    if (result == RING_OK) {
        RING_POINT(marked);
        result = ring_visit_records(r, space.free, end, recover_sweep, &loans);
    }
    if (result != RING_OK) {
        return result;
    }
    RING_POINT(swept);
    if (space.loans != 0) {
        store_word(&shared->reserve, word_of(space.alloc, loans));
    }
    RING_POINT(counted);
    return ring_advance_low_water(r);
}

/* Tells whether dropping messages makes room for a payload of `length` bytes and `spare` more
   units. Loans and views stay where they are; if one is in the way, dropping messages would lose
   them for nothing. Reads no more records than would be dropped. */
static inline bool
ring_drop_makes_room(ring *r, uint64_t length, uint64_t spare)
{
    ring_space space;
    if (ring_measure_space(r, true, &space) != RING_OK || space.loans >= r->capacity) {
        return false;
    }
    uint64_t tail = position_of(space.tail), units = units_for(length);
    uint64_t padding = ring_padding(r, space.alloc, units, length >= LARGE_PAYLOAD);
    uint64_t wanted = padding + units + spare + space.loans;
    for (uint64_t from = space.free;;) {
        record_info info;
        if (ring_distance(r, from, space.alloc) + wanted <= r->units) {
            return true;
        }
        if (from == tail || !ring_read_record(r, from, ring_distance(r, from, tail), &info)
            || info.kind == RECORD_LOAN || info.kind == RECORD_VIEW) {
            return false;
        }
        from = ring_advance(r, from, info.units);
    }
}

/* Drops the oldest message. Returns RING_OK, RING_EMPTY if there is none, or RING_CORRUPT. */
static inline ring_result
ring_drop_oldest(ring *r)
{
    ring_message message;
    ring_result result = ring_peek(r, &message);
    if (result != RING_OK) {
        return result;
    }
    uint64_t dropped = load_word(&r->shared->dropped);
    store_word(&r->shared->dropped, dropped + 1);
    RING_POINT(dropping);
    uint64_t received = r->peers[r->index].received;
    result = ring_take(r, &message, 1);
    __atomic_store_n(&r->peers[r->index].received, received, __ATOMIC_RELAXED);
    return result;
}

#endif
