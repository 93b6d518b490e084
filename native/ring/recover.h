/* Reclaiming what dead peers held, and dropping messages of a channel that overwrites. Each function
   requires send_lock and receive_lock. No Python.h here. */
#ifndef IPCKIT_RING_RECOVER_H
#define IPCKIT_RING_RECOVER_H

#include "ring/release.h"
#include "ring/send.h"

/* Tells whether the record that a queued block names waits, and refers to that block. */
static inline bool
recover_is_queued(const ring *r, uint32_t block, uint64_t word)
{
    uint64_t position = block_holder(word);
    uint64_t head = position_of(load_acquire(&r->shared->head));
    uint64_t tail = position_of(load_acquire(&r->shared->tail));
    record_info info;
    return ring_position_is_valid(r, position) && ring_position_is_valid(r, head)
        && ring_position_is_valid(r, tail)
        && ring_distance(r, head, position) < ring_distance(r, head, tail)
        && ring_read_record(r, position, 1, &info) && info.kind == RECORD_BLOCK
        && info.first == block;
}

/* Reclaims a block if its holder is dead. Sets `*returned` if its message waits to be received again.
   Returns RING_OK, or RING_CORRUPT for a word that no peer writes. */
static inline ring_result
recover_block(ring *r, uint32_t block, uint64_t word, bool *returned)
{
    bool valid = true;
    switch (block_kind_of(word)) {
    case BLOCK_LENT:
    case BLOCK_READ:
        if (ring_owner_is_dead(r, (uint32_t)block_holder(word), &valid)) {
            block_free(r, block, word);
        }
        break;
    case BLOCK_TAKEN:
        if (ring_owner_is_dead(r, (uint32_t)block_holder(word), &valid)) {
            *returned |= ring_requeue_word(r, block, word);
        }
        break;
    case BLOCK_QUEUED: /* its sender, or a receiver that dropped it, may have died halfway */
        if (!recover_is_queued(r, block, word)) {
            block_free(r, block, word);
        }
        break;
    case BLOCK_RETURNED: /* its receiver may have died before ring_note_returned */
        *returned = true;
        break;
    default:
        return RING_CORRUPT;
    }
    RING_POINT(sweeping);
    return valid ? RING_OK : RING_CORRUPT;
}

/* Frees the blocks of all dead peers, and returns the messages that they had taken. Clears
   recovery_wanted first, so that a peer that dies during the recovery asks for another one. The exchange
   pairs with the release in ring_remove_locked_peer: a store would let the loads of `generation` come
   before it. Returns RING_OK or RING_CORRUPT. */
static inline ring_result
ring_recover(ring *r)
{
    channel_header *shared = r->shared;
    exchange_acquire(&shared->recovery_wanted, 0);
    RING_POINT(recovering);
    ring_side_state(r, 0);
    RING_POINT(peers_checked);
    bool returned = false;
    for (uint64_t at = 0; at < r->granules;) {
        uint64_t word = block_load(r, (uint32_t)at);
        ring_result result =
            word == BLOCK_FREE ? RING_OK : recover_block(r, (uint32_t)at, word, &returned);
        if (result != RING_OK) {
            return result;
        }
        at += block_step(r, at, word);
    }
    RING_POINT(swept);
    if (returned) {
        ring_note_returned(r);
    }
    return RING_OK;
}

/* Runs a recovery if one is wanted. If a lock is not available, leaves it for later and returns
   RING_OK. Requires no lock. */
static inline ring_result
ring_recover_if_wanted(ring *r)
{
    channel_header *shared = r->shared;
    if (!load_acquire(&shared->recovery_wanted)) {
        return RING_OK;
    }
    ring_result result = ring_lock_both(r, &shared->send_lock, &shared->receive_lock, 0);
    if (result == RING_BUSY) {
        return RING_OK;
    }
    if (result == RING_OK) {
        result = ring_recover(r);
        ring_unlock(r, &shared->receive_lock);
        ring_unlock(r, &shared->send_lock);
        ring_notify(r, POLL_SPACE);
        ring_notify(r, POLL_ITEMS);
    }
    return result;
}

/* Drops the oldest message and counts it. Requires receive_lock. Returns RING_OK, RING_EMPTY if there
   is none, or RING_CORRUPT. */
static inline ring_result
ring_drop_oldest(ring *r)
{
    ring_message message;
    ring_result result = ring_peek(r, &message);
    if (result == RING_OK) {
        store_relaxed(&r->shared->dropped, load_relaxed(&r->shared->dropped) + 1);
        RING_POINT(dropping);
        ring_drop(r, &message);
    }
    return result;
}

#endif
