/* Taking messages from a ring: by a copy, or by a view that is read in place. Each function
   requires receive_lock unless it says otherwise. No Python.h here. */
#ifndef IPCKIT_RING_RECEIVE_H
#define IPCKIT_RING_RECEIVE_H

#include "ring/lock.h"

/* The next message, found but not taken. */
typedef struct {
    uint64_t head;    /* the word that was read */
    uint64_t at;      /* position of the record with its bytes */
    uint64_t end;     /* position after the record at head */
    bool elsewhere;   /* the record at head is a RECORD_REF to it */
    uint64_t items;   /* messages in the record */
    uint64_t index;   /* the index of this message among them */
    const char *data;
    uint64_t length;  /* bytes of this message */
} ring_message;

/* Sets the low water mark to a record that stays in use after head passes it, unless an earlier
   one is already in use. Released before head; pairs with ring_measure_space. */
static inline void
ring_set_low_water(ring *r, uint64_t position)
{
    if (!(load_word(&r->shared->low_water) & 1)) {
        store_word(&r->shared->low_water, position << 1 | 1);
    }
}

/* Advances the low water mark to the first record before head that is still in use. Returns
   RING_OK or RING_CORRUPT. */
static inline ring_result
ring_advance_low_water(ring *r)
{
    uint64_t low_water = load_word(&r->shared->low_water);
    uint64_t head = position_of(load_word(&r->shared->head));
    uint64_t position = low_water >> 1;
    if (!(low_water & 1)) {
        return RING_OK;
    }
    if (!ring_position_is_valid(r, position) || !ring_position_is_valid(r, head)
        || ring_distance(r, position, head) > r->units) {
        return RING_CORRUPT;
    }
    while (position != head) {
        record_info info;
        if (!ring_read_record(r, position, ring_distance(r, position, head), &info)) {
            return RING_CORRUPT;
        }
        if (info.kind == RECORD_LOAN || info.kind == RECORD_SENT || info.kind == RECORD_VIEW
            || info.kind == RECORD_MARKED) {
            RING_POINT(before_low_water);
            store_word(&r->shared->low_water, position << 1 | 1);
            return RING_OK;
        }
        position = ring_advance(r, position, info.units);
    }
    RING_POINT(before_low_water);
    store_word(&r->shared->low_water, head << 1);
    return RING_OK;
}

/* Finds the record that a RECORD_REF at `position` refers to. It is a sent loan, or a view of a
   receiver that died before it took the message. Returns false if there is no such record. */
static inline bool
ring_follow_ref(const ring *r, uint64_t position, ring_message *message, record_info *info)
{
    message->at = info->length;
    if (!ring_position_is_valid(r, message->at) || ring_distance(r, message->at, position) > r->units
        || !ring_read_record(r, message->at, ring_distance(r, message->at, position), info)) {
        return false;
    }
    return (info->kind == RECORD_SENT || info->kind == RECORD_MARKED || info->kind == RECORD_VIEW)
        && info->items == 1;
}

/* Advances head over a record that is not a message. A record in use becomes the low water mark. */
static inline void
ring_skip_record(ring *r, uint64_t head, const record_info *info)
{
    uint64_t position = position_of(head);
    if (info->kind != RECORD_PAD && info->kind != RECORD_FREE) {
        ring_set_low_water(r, position);
    }
    RING_POINT(before_skip);
    store_word(&r->shared->head, word_of(ring_advance(r, position, info->units), count_of(head)));
}

/* Fills in the rest of a message from its record. Returns RING_OK or RING_CORRUPT. */
static inline ring_result
ring_describe_message(const ring *r, const record_info *info, ring_message *message)
{
    message->items = info->items;
    message->index = 0;
    message->length = info->length;
    message->data = ring_payload(r, message->at, info->length);
    if (r->item_size != 0 && info->length != r->item_size * info->items) {
        return RING_CORRUPT;
    }
    if (info->items > 1) { /* a RECORD_REF refers to one message only */
        message->index = (count_of(message->head) - info->first) & COUNT_MASK;
        if (message->index >= info->items) {
            return RING_CORRUPT;
        }
        message->length = info->length / info->items;
        message->data += message->index * message->length;
    }
    return RING_OK;
}

/* Tells whether the ring seems empty. Needs no lock. */
static inline bool
ring_looks_empty(const ring *r)
{
    uint64_t head = load_word(&r->shared->head);
    return load_word(&r->shared->cached_tail) == head && load_word(&r->shared->tail) == head;
}

/* Finds the next message and does not take it. Skips records that are not messages. Returns
   RING_OK, RING_EMPTY or RING_CORRUPT. The acquire of `tail` pairs with ring_publish_tail. */
static inline ring_result
ring_peek(ring *r, ring_message *message)
{
    channel_header *shared = r->shared;
    /* A message follows after at most this many records. */
    for (uint64_t passed = 0; passed <= r->units; passed++) {
        message->head = load_word(&shared->head);
        uint64_t position = position_of(message->head);
        uint64_t tail = load_word(&shared->cached_tail);
        if (position == position_of(tail)) {
            tail = load_word(&shared->tail);
            if (position == position_of(tail)) {
                return RING_EMPTY;
            }
            store_word(&shared->cached_tail, tail);
        }
        if (!ring_position_is_valid(r, position) || !ring_position_is_valid(r, position_of(tail))) {
            return RING_CORRUPT;
        }
        uint64_t limit = ring_distance(r, position, position_of(tail));
        record_info info;
        if (limit > r->units || !ring_read_record(r, position, limit, &info)) {
            return RING_CORRUPT;
        }
        message->at = position;
        message->end = ring_advance(r, position, info.units);
        message->elsewhere = info.kind == RECORD_REF;
        if (message->elsewhere && !ring_follow_ref(r, position, message, &info)) {
            return RING_CORRUPT;
        }
        /* A view at head was never taken: its receiver died. */
        if (message->elsewhere || info.kind == RECORD_DATA || info.kind == RECORD_VIEW) {
            return ring_describe_message(r, &info, message);
        }
        ring_skip_record(r, message->head, &info);
    }
    return RING_CORRUPT;
}

/* Finds the next message if it is the only one and is stored beside the tail. Copies it to
   `copy` (SMALL_MAX bytes) without touching its record. Returns false if ring_peek must be used.
   It is a seqlock read: small_number is read before and after the copy, and pairs with the
   stores in ring_advance_tail_small. */
static inline bool
ring_peek_small(ring *r, ring_message *message, char *copy)
{
    channel_header *shared = r->shared;
    uint64_t head = load_word(&shared->head);
    if (position_of(head) != position_of(load_word(&shared->cached_tail))) {
        return false; /* several were sent; reading the tail takes its line from senders */
    }
    uint64_t tail = load_word(&shared->tail);
    uint32_t number = __atomic_load_n(&shared->small_number, __ATOMIC_ACQUIRE);
    uint64_t length = load_word(&shared->small_length);
    if (((count_of(tail) - count_of(head)) & COUNT_MASK) != 1 || number != count_of(head)
        || length > SMALL_MAX || (r->item_size != 0 && length != r->item_size)) {
        return false;
    }
    seqlock_copy_out(copy, shared->small, length);
    uint64_t position = position_of(head), end = position_of(tail);
    if (__atomic_load_n(&shared->small_number, __ATOMIC_RELAXED) != number
        || !ring_position_is_valid(r, position) || !ring_position_is_valid(r, end)
        || ring_distance(r, position, end) != units_for(length)) {
        return false;
    }
    store_word(&shared->cached_tail, tail);
    *message = (ring_message){.head = head,
                              .at = position,
                              .end = end,
                              .items = 1,
                              .data = copy,
                              .length = length};
    return true;
}

/* Advances head past `items` messages of the record, and counts them. The release pairs with
   ring_measure_space: senders may overwrite the record. */
static inline void
ring_advance_head(ring *r, const ring_message *message, uint64_t items)
{
    bool all = message->index + items == message->items;
    uint64_t position = all ? message->end : position_of(message->head);
    RING_POINT(before_head);
    store_word(&r->shared->head, word_of(position, count_of(message->head) + items));
    RING_POINT(after_head);
    channel_peer *peer = &r->peers[r->index];
    __atomic_store_n(&peer->received, peer->received + items, __ATOMIC_RELAXED);
}

/* Frees a record before head, and advances the low water mark if it stood there. */
static inline ring_result
ring_free_record(ring *r, uint64_t at)
{
    ring_set_record_state(r, at, RECORD_FREE, r->owner);
    RING_POINT(freed);
    uint64_t low_water = load_word(&r->shared->low_water);
    return low_water == (at << 1 | 1) ? ring_advance_low_water(r) : RING_OK;
}

/* Takes `items` messages of the record, starting with this one. The caller has copied their
   bytes. */
static inline ring_result
ring_take(ring *r, const ring_message *message, uint64_t items)
{
    if (r->on_take != NULL) {
        r->on_take(r->on_take_data, message->data, message->length);
    }
    ring_advance_head(r, message, items);
    return message->elsewhere ? ring_free_record(r, message->at) : RING_OK;
}

/* Prefetches the record after a message that is being taken, if one was sent, so that it arrives
   while the caller uses this message. */
static inline void
ring_prefetch_next(const ring *r, const ring_message *message)
{
    if (message->end != position_of(load_word(&r->shared->cached_tail))
        && message->index + 1 == message->items) {
        const char *record = (const char *)ring_record_at(r, message->end);
        uint64_t bytes = ring_prefetch_bytes(r, message->end, message->length);
        for (uint64_t at = 0; at < bytes; at += 64) {
            __builtin_prefetch(record + at);
        }
    }
}

/* Takes a message as a view: its bytes stay in place until ring_release_view. Only for a record
   with one message. Head passes the record, so the low water mark must be set first. */
static inline void
ring_take_view(ring *r, const ring_message *message)
{
    ring_set_record_state(r, message->at, RECORD_VIEW, r->owner);
    RING_POINT(viewed);
    if (!message->elsewhere) {
        ring_set_low_water(r, message->at);
        RING_POINT(low_water_set);
    }
    ring_advance_head(r, message, 1);
}

/* Frees the record of a view or a loan, with or without a lock. Returns false if the record is
   not of this kind and owner. */
static inline bool
ring_try_free_record(ring *r, uint64_t at, record_kind kind, uint32_t owner)
{
    uint32_t expected = state_of(kind, owner);
    return __atomic_compare_exchange_n(&ring_record_at(r, at)->state, &expected,
                                       state_of(RECORD_FREE, owner), false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED);
}

#endif
