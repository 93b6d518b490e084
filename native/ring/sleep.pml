/* A model of how the peers of a channel sleep, wake each other, take over from a process that was killed,
   and wait for one that is stopped. tests/verify/spin.py checks it with Spin, for several sets of options.

   The property is liveness. Each call ends: it does its work, or it is told that the other side is gone,
   or its deadline passes. A call without a deadline may wait as long as only a stopped peer could help it.

   A comment that names a header, a function and a statement says which C the next step stands for.
   tests/verify/test_spin.py checks that the statement is still there.

   What is simpler than in C:
   - Messages have no bytes. `tail`, `head` and `senders_tail` count units. A large message has two.
   - A process has one thread. It has joined and taken its role before the first step.
   - Polling before a sleep is left out. It only tries once more.
   - The count in a futex word has no limit here. A process has a ticket as long as the count is the one
     that it read. So the model stores who has a valid ticket, not the count.
   - ring_wake has no limit of tries (WAKE_TRIES, for a peer that corrupts the word).
   - Descriptors (WORD_POLLERS, WORD_DEFERRED), loans, acknowledged receives and overwriting are left out.

   Memory is that of x86 (TSO), for the stores that a peer makes before it reads a futex word: they leave its
   store buffer one after the other, at any time, at the latest at its next read-modify-write. The C11 orders
   themselves are not checked here. */

/* -- options --------------------------------------------------------------------------------------- */

#ifndef SENDERS
#define SENDERS 1
#endif
#ifndef RECEIVERS
#define RECEIVERS 1
#endif
#define PEERS (SENDERS + RECEIVERS)
#ifndef CAPACITY
#define CAPACITY 1 /* units */
#endif
#ifndef FILLED
#define FILLED 0 /* units in the ring before the first step */
#endif
#ifndef SENDS
#define SENDS 2 /* calls of each sender */
#endif
#ifndef BATCH
#define BATCH 1 /* messages of one call, if there is room for them */
#endif
#ifndef LARGE
#define LARGE 0 /* 1: the first sender sends one message, which needs two units */
#endif
#ifndef VIEWS
#define VIEWS 0 /* 1: a receiver keeps the memory of a message for a while after the receive */
#endif
#ifndef RECEIVES
#define RECEIVES 99 /* calls of each receiver; the default is until no sender is left */
#endif
#ifndef LEAVES
#define LEAVES 1 /* 0: a process makes no call any more, but does not leave, which would wake all */
#endif
#ifndef LAST_IS_IDLE
#define LAST_IS_IDLE 0 /* 1: the last peer makes no call */
#endif
#ifndef MAY_WAIT
#define MAY_WAIT 0 /* 1: a process may sleep for ever if there is no room or no message for it, because a
                      peer of the other side stays */
#endif
#ifndef TURNS
#define TURNS 0 /* a process gives up so often because other peers are always faster (TURNS_MAX) */
#endif
#ifndef POLLERS
#define POLLERS 0 /* that many of the first senders make calls with a deadline of 0 */
#endif
#ifndef DEATHS
#define DEATHS 0
#endif
#ifndef HOLDERS_DIE
#define HOLDERS_DIE 0 /* 1: only a process that has a lock is killed */
#endif
#ifndef STOPS
#define STOPS 0
#endif
#ifndef STOPS_FOR_EVER
#define STOPS_FOR_EVER 0 /* 1: a stopped process may never continue; 2: VICTIM has no lock when it is stopped,
                            and never continues */
#endif
#ifndef DEADLINES
#define DEADLINES 0 /* 1: the deadline of every call passes at some time */
#endif
#ifndef FULL_BARRIERS
#define FULL_BARRIERS 0 /* 1: membarrier(2) is not available */
#endif

/* VICTIM: only that process is killed or stopped. */

/* How time passes. NEVER: no sleep times out. So a wake that is lost is a deadlock. TICKS: a sleep times out
   only if no process can run. One tick is PEER_CHECK_NS. Every peer must end in TICKS_MAX ticks after the
   last death or stop. ANY: a sleep may time out at any moment. */
#define NEVER 0
#define TICKS 1
#define ANY 2
#ifndef TIME
#define TIME NEVER
#endif
#ifndef LAST_IS_LATE
#define LAST_IS_LATE 0 /* 1: the last peer sleeps for PAUSE_MAX_NS: another peer checks */
#endif
#define TICKS_MAX 1

/* Mutants: each leaves out one step, or makes it too late.

   Two steps of the C are in no mutant, because no scenario needs them:
   - ring_lock wakes a sleeper before it returns RING_BUSY. The owner that it found still has to unlock the
     lock. It finds WORD_SLEEPERS, and wakes one.
   - ring_recover_lock sets recovery_wanted. The removal of the dead owner sets it too, and a recovery takes
     both locks. */
#ifdef NO_MEMBARRIER
#define HEAVY 0
#else
#define HEAVY 1
#endif

/* -- the shared memory and the kernel -------------------------------------------------------------- */

#define ITEMS 1
#define SPACE 2
#define SEND_WORD 3 /* send_lock.word */
#define RECEIVE_WORD 4

#define SEND_LOCK 0
#define RECEIVE_LOCK 1
#define WORD_OF(lock) (SEND_WORD + lock)

#define me _pid
#define NAME (_pid + 1)  /* in a lock; 0 is nobody */
#define IS_SENDER(p) (p < SENDERS)
#define IS_POLLER(p) (p < POLLERS)
#define OWN_LOCK (IS_SENDER(me) -> SEND_LOCK : RECEIVE_LOCK)
#define OWN_WORD (IS_SENDER(me) -> SPACE : ITEMS)
#define OTHER_WORD (IS_SENDER(me) -> ITEMS : SPACE)
#define UNITS_OF(p) (p == 0 && LARGE -> 2 : 1)

byte tail = FILLED, head, senders_tail = FILLED;
byte large_at = 255;        /* where a message of two units begins */
byte held[PEERS];           /* 1: a receiver changed the block's word; 2: and advanced head */
bool flag[5];               /* WORD_SLEEPERS of each word */
byte owner[2];              /* of each lock */
bool recovery_wanted;
bool recent;                /* checked_at is less than PEER_CHECK_NS ago */
bool joined[PEERS] = 1;
bool removed[PEERS];        /* the generation is a newer one */

byte asleep[PEERS];         /* the word that a process sleeps on in the kernel */
byte due[PEERS];            /* ticks until its sleep times out */
bool lock_is_free[PEERS];   /* the OFD lock: the kernel released it after the process exited */
byte remover[PEERS];        /* the process that has the OFD lock of a dead peer */

byte ticket[PEERS];         /* the word whose count a call has, as long as it is unchanged */
byte lock_ticket[PEERS];    /* the same for the sleep in ring_lock */
byte wake_ticket[PEERS];    /* the same for the compare-and-swap in ring_wake */
bool passed[PEERS];         /* head and `freed` are as in the snapshot for which a sender passed a wake on */

byte stored[PEERS];         /* a store of tail, head or `freed` that is in the store buffer: units */
byte unlocked[PEERS];       /* a store of 0 to the owner of a lock that comes behind it: lock + 1 */
byte stored_tail;           /* the value of that store to tail */
#define FREED 9

bool dead[PEERS];           /* killed: makes no step any more */
bool is_stopped[PEERS];
byte interrupted[PEERS];    /* the word on which a stopped process slept */
bool ended[PEERS];          /* all calls returned, and the process left */
bool stopped_for_ever[PEERS];
bool expired;               /* the deadlines have passed */
bool hit_once;              /* a process was killed, or stopped for ever */
byte ticks;                 /* since then */

hidden byte q;

/* The count of a word goes up: no ticket for it is valid now. */
inline step(word)
{
    q = 0;
    do
    :: q < PEERS ->
        if :: ticket[q] == word -> ticket[q] = 0 :: else fi;
        if :: lock_ticket[q] == word -> lock_ticket[q] = 0 :: else fi;
        if :: wake_ticket[q] == word -> wake_ticket[q] = 0 :: else fi;
        q++
    :: else -> break
    od;
    q = 0
}

inline space_changes()
{
    q = 0;
    do :: q < SENDERS -> passed[q] = 0; q++ :: else -> break od;
    q = 0
}

/* The oldest store leaves the store buffer of a process. */
inline flush_data(p)
{
    if
    :: stored[p] == 0
    :: stored[p] != 0 && IS_SENDER(p) -> tail = stored_tail; stored_tail = 0
    :: stored[p] == FREED -> held[p] = 0; space_changes()
    :: stored[p] != 0 && !IS_SENDER(p) && stored[p] != FREED ->
        head = head + stored[p];
        if :: VIEWS -> held[p] = 2 :: else fi;
        if :: head > large_at && large_at != 255 -> large_at = 255 :: else fi;
        space_changes()
    fi;
    stored[p] = 0
}

inline flush(p)
{
    flush_data(p);
    if :: unlocked[p] -> owner[unlocked[p] - 1] = 0; unlocked[p] = 0 :: else fi
}

/* An option of a loop that comes before a load: the own stores become visible, all or the first. */
#define STORES_BECOME_VISIBLE \
    :: d_step { stored[me] != 0 -> flush_data(me) } \
    :: d_step { unlocked[me] != 0 -> flush(me) }

inline flush_all()
{
    flush(0); flush(1);
#if PEERS > 2
    flush(2);
#endif
#if PEERS > 3
    flush(3);
#endif
}

/* -- sleep and wake (lock.h, futex.h) -------------------------------------------------------------- */

#if PEERS > 3
#define NONE_ASLEEP(word) (asleep[0] != word && asleep[1] != word && asleep[2] != word && asleep[3] != word)
#elif PEERS > 2
#define NONE_ASLEEP(word) (asleep[0] != word && asleep[1] != word && asleep[2] != word)
#else
#define NONE_ASLEEP(word) (asleep[0] != word && asleep[1] != word)
#endif

inline futex_wake_all(word)
{
    q = 0;
    do
    :: q < PEERS -> if :: asleep[q] == word -> asleep[q] = 0; due[q] = 0 :: else fi; q++
    :: else -> break
    od;
    q = 0
}

#ifdef NO_BARRIER_IN_FUTEX_WAKE
#define IN_ORDER true
#else
#define IN_ORDER (stored[me] == 0 && unlocked[me] == 0)
#endif
#define WAKE(p, word) \
    :: d_step { more == 1 && IN_ORDER && asleep[p] == word -> asleep[p] = 0; due[p] = 0; more = 0 }

/* `more` is 1 before futex_wake, 2 before the compare-and-swap, 3 before the last futex_wake. The kernel has
   a full barrier in futex_wake, before it looks for sleepers. It wakes any of them. */
inline ring_wake_one(word)
{
    // lock.h ring_wake: uint32_t found = load_relaxed(word);
    atomic { more = flag[word]; wake_ticket[me] = (more -> word : 0) };
    do
    :: more == 0 -> break
    :: d_step { more == 1 && !IN_ORDER -> flush(me) }
    // lock.h ring_wake: if (!(found & WORD_SLEEPERS) || futex_wake(word, count) > 0) {
    WAKE(0, word)
    WAKE(1, word)
#if PEERS > 2
    WAKE(2, word)
#endif
#if PEERS > 3
    WAKE(3, word)
#endif
    :: d_step { more == 1 && IN_ORDER && NONE_ASLEEP(word) -> more = 2 }
    // lock.h ring_wake: uint32_t cleared = (found & ~WORD_SLEEPERS) + WORD_STEP;
    :: d_step { more == 2 ->
        flush(me);
        if
        :: wake_ticket[me] == word && flag[word] ->
            flag[word] = 0;
#ifndef CLEAR_WITHOUT_STEP
            step(word);
#endif
            more = 3
        :: else -> more = flag[word]; wake_ticket[me] = (flag[word] -> word : 0)
        fi }
    // lock.h ring_wake: futex_wake(word, INT_MAX);
    :: d_step { more == 3 ->
#ifndef NO_WAKE_AFTER_CLEAR
        futex_wake_all(word);
#endif
        more = 0 }
    od;
    wake_ticket[me] = 0
}

inline ring_wake_all(word)
{
    // lock.h ring_wake_all: fetch_add_seq_cst(word, WORD_STEP);
    d_step { flush(me); step(word) };
    // lock.h ring_wake_all: futex_wake(word, INT_MAX);
    d_step { futex_wake_all(word) }
}

inline ring_wake_everyone()
{
    // poll.h ring_wake_everyone: ring_wake_all(&r->shared->items);
    ring_wake_all(ITEMS);
    // poll.h ring_wake_everyone: ring_wake_all(&r->shared->space);
    ring_wake_all(SPACE)
}

inline ring_notify(word)
{
    do
    STORES_BECOME_VISIBLE
    // poll.h ring_notify: uint32_t found = load_relaxed(word);
    // poll.h ring_notify: ring_wake_one(word);
    :: flag[word] -> ring_wake_one(word); break
    :: !flag[word] -> break
    od
}

/* In one step: a store that a peer makes between the two comes before its load of the flag anyway. */
inline ring_prepare_sleep(word)
{
    // lock.h ring_prepare_sleep: uint32_t found = load_relaxed(word);
    flush(me);
    flag[word] = 1;
    // lock.h ring_prepare_sleep: ring_heavy_barrier(r, word);
    // peers.h ring_heavy_barrier: if (!ring_has_own_barriers(r) && !membarrier_all()) {
    if :: HEAVY && !FULL_BARRIERS -> flush_all() :: else fi
}

inline light_barrier()
{
    // peers.h ring_light_barrier: full_barrier(word);
#ifndef NO_LIGHT_BARRIER
    if :: FULL_BARRIERS -> d_step { flush(me) } :: else fi
#else
    skip
#endif
}

/* Sets `late` if the sleep timed out. `pause` is in ticks. `may` is true if it may even if TIME is NEVER. */
inline futex_wait(word, valid, ticks_to_sleep, may, late)
{
    atomic {
        if
        :: flag[word] && valid == word -> asleep[me] = word; due[me] = ticks_to_sleep
        :: else
        fi;
        if
        :: asleep[me] == 0 -> late = 0
        :: asleep[me] != 0 && (TIME == ANY || may || (TIME == TICKS && due[me] == 0)) ->
            asleep[me] = 0; due[me] = 0; late = 1
        fi
    }
}

/* -- locks (lock.h) -------------------------------------------------------------------------------- */

/* peers.h ring_owner_is_dead: another peer has the place, or the lock of the place is free. */
#define OWNER_IS_DEAD(p) (removed[p] || (lock_is_free[p] && remover[p] == 0))

#define AGAIN 0
#define OK 1
#define BUSY 2
#define INTERRUPTED 3
#define EMPTY 4
#define FULL 5
#define GONE 6
#define TIMEOUT 7

inline ring_unlock(lock)
{
    // lock.h ring_unlock: store_release(&lock->owner, 0);
    atomic { unlocked[me] = lock + 1 };
    // lock.h ring_unlock: ring_light_barrier(r, &lock->word);
    light_barrier();
    do
    STORES_BECOME_VISIBLE
#ifdef UNLOCK_WITHOUT_WAKE
    :: true -> break
#else
    // lock.h ring_unlock: ring_run_deferred(r, lock);
    :: d_step { flag[WORD_OF(lock)] -> flush(me) };
        // lock.h ring_unlock: ring_wake_one(&lock->word);
        ring_wake_one(WORD_OF(lock));
        break
    :: !flag[WORD_OF(lock)] -> break
#endif
    od
}

/* Sets `locked` to OK, BUSY or INTERRUPTED. `at_once`: the deadline is 0. */
inline ring_lock(lock, at_once)
{
    // lock.h ring_lock: if (ring_try_lock(r, lock)) {
    atomic {
        flush(me);
        if :: owner[lock] == 0 -> owner[lock] = NAME; locked = OK :: else -> locked = AGAIN fi
    };
    do
    :: locked != AGAIN -> break
    :: locked == AGAIN ->
        // lock.h ring_lock: uint32_t ticket = ring_prepare_sleep(r, &lock->word, WORD_SLEEPERS);
        d_step { ring_prepare_sleep(WORD_OF(lock)); lock_ticket[me] = WORD_OF(lock) };
        // lock.h ring_lock: uint32_t found = 0;
        d_step {
            if :: owner[lock] == 0 -> owner[lock] = NAME; locked = OK :: else -> found = owner[lock] fi
        };
        if
        :: locked == OK
        :: else ->
            // lock.h ring_lock: ring_result result = ring_recover_lock(r, lock, found);
            // lock.h ring_recover_lock: if (!ring_owner_is_dead(r, found, &valid)) {
            if
#if DEATHS && !defined(NO_TAKE_OVER)
            :: OWNER_IS_DEAD(found - 1) ->
                // lock.h ring_recover_lock: if (!compare_exchange(&lock->owner, &found, r->owner, ACQUIRE, RELAXED)
                d_step {
                    if :: owner[lock] == found -> owner[lock] = NAME; locked = OK :: else fi
                };
                if
                :: locked == OK ->
#ifndef TAKE_OVER_WITHOUT_REPAIR
                    // lock.h ring_recover_lock: store_relaxed(&r->shared->senders_tail, load_relaxed(&r->shared->tail));
                    // lock.h ring_recover_lock: ring_repair_next(r);
                    d_step {
                        if
                        :: lock == SEND_LOCK -> senders_tail = tail
                        :: else ->
                            q = 0;
                            do
                            :: q < PEERS -> if :: held[q] == 1 -> held[q] = 0 :: else fi; q++
                            :: else -> break
                            od;
                            q = 0
                        fi
                    };
#endif
                    // lock.h ring_recover_lock: store_release(&r->shared->recovery_wanted, 1);
                    recovery_wanted = 1
                :: else
                fi
            :: !OWNER_IS_DEAD(found - 1)
#else
            :: true
#endif
            fi;
            found = 0;
            if
            :: locked == OK
            // lock.h ring_lock: if (now >= until) {
            :: locked == AGAIN && (at_once || expired) ->
                // lock.h ring_lock: ring_wake_one(&lock->word);
                ring_wake_one(WORD_OF(lock));
                locked = BUSY
            :: locked == AGAIN && !(expired && !at_once) && !lock_timed_out ->
                /* LOCK_GRACE_NS may pass at any moment, and has passed after a sleep that timed out. */
                // lock.h ring_lock: int error = futex_wait(&lock->word, ticket, earlier(until, now + PEER_CHECK_NS));
                futex_wait(WORD_OF(lock), lock_ticket[me], 1, at_once, lock_timed_out);
                // lock.h ring_lock: if (deadline != 0 && (error == EINTR || error == ETIMEDOUT)) {
                if :: lock_timed_out && !at_once -> locked = INTERRUPTED :: else fi
            fi
        fi;
        atomic { lock_ticket[me] = 0; if :: locked != AGAIN -> lock_timed_out = 0 :: else fi }
    od
}

/* -- the peers (peers.h, lock.h, check.h) ---------------------------------------------------------- */

/* One search stands for all that ring_side_state makes, because no peer joins. Removes the peers that died. Sets `present` if a peer of the other side is there. */
inline ring_side_state()
{
    atomic { i = 0; present = 0; died = 0 };
    do
    /* Loads of several peers are one step here, because `joined` changes only from 1 to 0. */
    :: atomic { true ->
        do
        // lock.h ring_find_role: if (!load_acquire(&peer->joined)) {
        :: i < PEERS && (i == me || !joined[i]) -> i++
        :: i < PEERS && i != me && joined[i] ->
            if
            // lock.h ring_find_role: } else if (peer_lock_is_free(r->fd, index)) {
            // lock.h ring_find_role: *died |= ring_remove_dead_peer(r, index, &dead);
            // peers.h ring_remove_dead_peer: if (peer_lock(r->fd, index)) {
            :: lock_is_free[i] && remover[i] == 0 -> remover[i] = NAME; break
            :: else -> present = present || (IS_SENDER(i) != IS_SENDER(me)); i++
            fi
        :: i == PEERS -> break
        od };
        if
        :: i == PEERS -> i = 0; break
        :: else ->
            if
            // peers.h ring_remove_locked_peer: if (!load_acquire(&peer->joined)) {
            :: !joined[i]
            :: joined[i] ->
                // peers.h ring_remove_locked_peer: store_release(&peer->generation, generation + 1);
                removed[i] = 1;
#ifndef REMOVAL_WITHOUT_RECOVERY
                // peers.h ring_remove_locked_peer: store_release(&r->shared->recovery_wanted, 1);
                recovery_wanted = 1;
#endif
                // peers.h ring_remove_locked_peer: return exchange_acq_rel(&peer->joined, 0) != 0;
                d_step { flush(me); died = died || joined[i]; joined[i] = 0 }
            fi;
            // peers.h ring_remove_dead_peer: peer_unlock(r->fd, index);
            d_step { remover[i] = 0; i++ }
        fi
    od;
#ifndef REMOVAL_WITHOUT_WAKE
    if
    // lock.h ring_side_state: ring_wake_everyone(r);
    :: died -> died = 0; ring_wake_everyone()
    :: else
    fi
#else
    died = 0
#endif
}

/* Recovers what dead peers held (recover.h). */
inline ring_reclaim()
{
    if
    // recover.h ring_recover_if_wanted: if (!load_acquire(&shared->recovery_wanted)) {
    :: !recovery_wanted
    :: recovery_wanted ->
        // recover.h ring_recover_if_wanted: ring_result result = ring_lock_both(r, &shared->send_lock, &shared->receive_lock, 0);
        ring_lock(SEND_LOCK, 1);
        if
        :: locked != OK
        :: else ->
            ring_lock(RECEIVE_LOCK, 1);
            if
            :: locked != OK
            :: else ->
                // recover.h ring_recover: exchange_acquire(&shared->recovery_wanted, 0);
                d_step { flush(me); recovery_wanted = 0 };
                was_present = present;
                // recover.h ring_recover: ring_side_state(r, 0);
                ring_side_state();
                atomic { present = was_present; was_present = 0 };
                // recover.h recover_block: block_free(r, block, word);
                d_step {
                    i = 0;
                    do
                    :: i < PEERS ->
                        if
                        :: held[i] && i != me && OWNER_IS_DEAD(i) ->
                            assert(held[i] == 2); /* else the next record refers to a free block */
                            held[i] = 0;
                            space_changes()
                        :: else
                        fi;
                        i++
                    :: else -> break
                    od;
                    i = 0
                };
                // recover.h ring_recover_if_wanted: ring_unlock(r, &shared->receive_lock);
                ring_unlock(RECEIVE_LOCK);
                locked = OK
            fi;
            // recover.h ring_recover_if_wanted: ring_unlock(r, &shared->send_lock);
            d_step { flush(me) };
            ring_unlock(SEND_LOCK);
            if
            :: locked == OK ->
                // recover.h ring_recover_if_wanted: ring_notify(r, POLL_SPACE);
                ring_notify(SPACE);
                // recover.h ring_recover_if_wanted: ring_notify(r, POLL_ITEMS);
                ring_notify(ITEMS)
            :: else
            fi
        fi;
        locked = 0
    fi
}

/* Sets `gone` if no peer of the other side is left. */
inline ring_check_peers_before_sleep()
{
    gone = 0;
    if
    // wait.h ring_check_peers_before_sleep: if (quiet && ring_checked_recently(r, now) && now - call->checked_at < OWN_CHECK_NS) {
    // wait.h ring_check_peers_before_sleep: call->pause = ring_longer_pause(call->pause, now);
    :: atomic { quiet && recent -> pause = (pause < 4 -> 2 * pause : 4) }
    :: atomic { !(quiet && recent) ->
        // check.h ring_check_peers: store_relaxed(&r->shared->checked_at, (uint64_t)now);
        recent = (TIME != NEVER);
        pause = (TIME == TICKS -> (LAST_IS_LATE && me == PEERS - 1 -> 4 : 1) : 0) };
        // wait.h ring_check_peers_before_sleep: gone = ring_check_peers(r, role, now) == SIDE_GONE && !call->wait_for_peers;
        ring_side_state();
        atomic { gone = !present; present = 0 }
    fi;
    quiet = 0;
    // wait.h ring_check_peers_before_sleep: ring_result result = ring_reclaim(r);
    ring_reclaim()
}

/* -- an operation (send.h, receive.h) -------------------------------------------------------------- */

#if VIEWS
#define IS_HELD(p) (held[p] == 2 -> 1 : 0)
#if PEERS > 2
#define HELD (IS_HELD(0) + IS_HELD(1) + IS_HELD(2))
#else
#define HELD (IS_HELD(0) + IS_HELD(1))
#endif
#else
#define HELD 0
#endif
#define USED (senders_tail - head + HELD)
#define ROOM (CAPACITY - USED)

/* Tries the operation under the lock. Sets `result`. */
inline ring_try_once()
{
    // wait.h ring_try_once: ring_result result = ring_lock(r, call->busy = lock, call->deadline);
    ring_lock(OWN_LOCK, IS_POLLER(me));
    if
    :: locked != OK -> atomic { result = locked; locked = 0 }
    :: else ->
        locked = 0;
        // wait.h ring_try_once: result = call->operation(r, call);
        if
        :: IS_SENDER(me) ->
            atomic {
                assert(senders_tail == tail);  /* the last holder died, and nobody repaired it */
                assert(USED <= CAPACITY);
                if
                :: USED + UNITS_OF(me) > CAPACITY -> result = FULL
                :: else ->
                    result = OK;
                    if
                    :: UNITS_OF(me) == 2 -> large_at = senders_tail; stored[me] = 2
                    :: else -> stored[me] = (BATCH == 2 && ROOM >= 2 && calls >= 2 -> 2 : 1)
                    fi;
                    calls = calls - (UNITS_OF(me) == 2 -> 1 : stored[me]);
                    units = stored[me];
                    // space.h ring_publish_tail: store_release(&r->shared->tail, tail);
                    stored_tail = senders_tail + units
                fi
            };
            if
            :: result == OK ->
                // space.h ring_publish_tail: store_relaxed(&r->shared->senders_tail, tail);
                do
                STORES_BECOME_VISIBLE
                :: d_step { true -> senders_tail = senders_tail + units; units = 0 }; break
                od
            :: else
            fi
        :: else ->
            // receive.h ring_peek: return RING_EMPTY;
            atomic {
                assert(head <= tail && tail <= head + CAPACITY);
                if :: tail == head -> result = EMPTY :: else -> result = OK fi
            };
            if
            :: result == OK ->
                // receive.h ring_hold: if (!block_change(r, message->block, message->word, held)) {
                if :: VIEWS -> held[me] = 1 :: else fi;
                // receive.h ring_advance_head: store_release(&r->shared->head, word_of(position, count_of(message->head) + items));
                atomic { stored[me] = (head == large_at -> 2 : 1); calls-- }
            :: else
            fi
        fi;
        // wait.h ring_try_once: ring_unlock(r, lock);
        ring_unlock(OWN_LOCK)
    fi
}

/* The end of a call. If it had slept, it may have used up a wake that was for more than it did. */
inline ring_finish()
{
#ifndef NO_WAKE_NEXT
    if
    // wait.h ring_wake_next: if (call->which == POLL_ITEMS ? more : waiting < r->capacity) {
    :: slept && !IS_SENDER(me) && tail != head + stored[me] -> ring_wake_one(ITEMS)
    :: slept && IS_SENDER(me) && (stored[me] -> stored_tail : tail) - head < CAPACITY -> ring_wake_one(SPACE)
    :: else
    fi;
#endif
    atomic {
        slept = 0; passed[me] = 0;
        if :: result == OK -> timed_out = 0; ticket[me] = 0; pause = 0 :: else fi
    };
    if
    // wait.h ring_notify_other_side: ring_notify_space(r);
    // wait.h ring_notify_other_side: ring_notify(r, POLL_ITEMS);
    :: result == OK -> ring_notify(OTHER_WORD)
    :: else
    fi
}

/* Runs the operation as soon as it is possible (wait.h). Sets `result`. */
inline ring_run()
{
    do
    // wait.h ring_run: if (turn == TURNS_MAX) {
    // wait.h ring_run: ring_wake_next(r, call); /* this call may begin anew without a message */
    :: atomic { slept && turns != 0 ->
        turns--; result = INTERRUPTED;
#ifdef NO_WAKE_AFTER_TURNS
        slept = 0;
#endif
        break }
    :: true ->
        // wait.h ring_run: ring_snapshot room = ring_take_snapshot(r, POLL_SPACE);
        // wait.h ring_run: passed = found;
        d_step {
            passes_on = (IS_SENDER(me) && slept && !passed[me]);
            passed[me] = (IS_SENDER(me) && slept)
        };
        // wait.h ring_run: ring_result result = ring_try_once(r, call);
        ring_try_once();
        if
        :: result != EMPTY && result != FULL -> passes_on = 0; break
        // wait.h ring_run: if (call->deadline == 0) {
        :: (result == EMPTY || result == FULL) && IS_POLLER(me) -> break
        :: else
        fi;
#ifndef NO_PASS_ON
        // wait.h ring_run: ring_wake_one(word);
        if :: passes_on -> passes_on = 0; ring_wake_one(SPACE) :: else fi;
#endif
        passes_on = 0;
#ifndef FLAG_AFTER_TRY
        // wait.h ring_run: uint32_t ticket = ring_prepare_sleep(r, word, WORD_SLEEPERS);
        d_step {
            ring_prepare_sleep(OWN_WORD);
            quiet = timed_out && ticket[me] == OWN_WORD;
            ticket[me] = OWN_WORD;
            timed_out = 0
        };
#endif
#ifndef CHECK_AFTER_TRY
        // wait.h ring_run: ring_result others = ring_check_peers_before_sleep(r, call, ticket);
        ring_check_peers_before_sleep();
#endif
#ifndef NO_SECOND_TRY
        // wait.h ring_run: result = ring_try_once(r, call);
        ring_try_once();
#endif
#ifdef CHECK_AFTER_TRY
        ring_check_peers_before_sleep();
#endif
#ifdef FLAG_AFTER_TRY
        atomic {
            ring_prepare_sleep(OWN_WORD);
            quiet = timed_out && ticket[me] == OWN_WORD;
            ticket[me] = OWN_WORD;
            timed_out = 0
        };
#endif
        if
        :: result != EMPTY && result != FULL -> gone = 0; break
        // wait.h ring_run: if (others == RING_GONE && !ring_is_not_over(r, call, result)) {
        :: (result == EMPTY || result == FULL) && gone -> gone = 0; slept = 0; result = GONE; break
        // wait.h ring_run: if (now >= call->deadline) {
        :: (result == EMPTY || result == FULL) && !gone && expired -> slept = 0; result = TIMEOUT; break
        :: else
        fi;
        // wait.h ring_run: int error = futex_wait(word, ticket, earlier(call->deadline, now + call->pause));
        futex_wait(OWN_WORD, ticket[me], pause, 0, timed_out);
        slept = 1;
        // wait.h ring_run: return RING_INTERRUPTED;
        if :: timed_out -> slept = 0; result = INTERRUPTED; break :: else fi
    od;
    ring_finish()
}

/* -- a process ------------------------------------------------------------------------------------- */

#if STOPS
#define IF_NOT_STOPPED provided (_pid >= PEERS || !is_stopped[_pid])
#else
#define IF_NOT_STOPPED
#endif

active [PEERS] proctype peer() IF_NOT_STOPPED
{
    byte result, locked, found, more, i, pause, units, calls;
    byte turns = TURNS;
    bool slept, timed_out, lock_timed_out, quiet, gone, present, was_present, died, passes_on;
    {
        d_step {
            calls = (IS_SENDER(me) -> (UNITS_OF(me) == 2 -> 1 : SENDS) : RECEIVES);
            if :: LAST_IS_IDLE && me == PEERS - 1 -> calls = 0 :: else fi
        };
        do
        :: calls == 0 -> break
        :: calls != 0 ->
            ring_run();
            if
            :: result == GONE ->
                /* It is told the truth. */
                assert(IS_SENDER(me) || tail == head);
                break
            :: result == TIMEOUT -> break
            :: result == BUSY -> if :: expired || IS_POLLER(me) -> break :: else fi
            :: IS_POLLER(me) && (result == FULL || result == EMPTY) -> break
            :: result == OK && VIEWS && !IS_SENDER(me) ->
                // release.h ring_release_block: if (word == BLOCK_FREE || !block_free(r, block, word)) {
                d_step { flush(me); stored[me] = FREED };
                // release.h ring_release_block: ring_light_barrier(r, &r->shared->space);
                light_barrier();
                // release.h ring_release_block: ring_notify(r, POLL_SPACE);
                ring_notify(SPACE)
            :: else
            fi;
            result = 0
        od;
        if
        :: LEAVES ->
            // open.h ring_leave: store_release(&peer->joined, 0);
            atomic { flush(me); joined[me] = 0 };
            // open.h ring_leave: peer_unlock(r->fd, r->index);
            lock_is_free[me] = 1;
#ifndef LEAVE_WITHOUT_WAKE
            // open.h ring_leave: ring_wake_everyone(r);
            ring_wake_everyone()
#endif
        :: else
        fi;
        atomic { flush(me); ended[me] = 1 }
    }
#if DEATHS
    unless { dead[me] }
#endif
}

/* -- what happens to the processes ----------------------------------------------------------------- */

#if MAY_WAIT
#if VIEWS /* the victim is the only one that has a view */
#define HAS_NO_ROOM(p) (asleep[p] == SPACE && senders_tail - head >= CAPACITY)
#else
#define HAS_NO_ROOM(p) (asleep[p] == SPACE && senders_tail - head + UNITS_FOR(p) > CAPACITY)
#endif
#define UNITS_FOR(p) (1 + LARGE * (p == 0))
#define HAS_NO_MESSAGE(p) (asleep[p] == ITEMS && tail == head && !dead[0])
#define WAITS_RIGHTLY(p) (HAS_NO_ROOM(p) || HAS_NO_MESSAGE(p))
#else
#define WAITS_RIGHTLY(p) false
#endif

#define HAS_ENDED(p) (ended[p] || dead[p] || stopped_for_ever[p] || WAITS_RIGHTLY(p))
#if PEERS > 3
#define ALL_ENDED (HAS_ENDED(0) && HAS_ENDED(1) && HAS_ENDED(2) && HAS_ENDED(3))
#elif PEERS > 2
#define ALL_ENDED (HAS_ENDED(0) && HAS_ENDED(1) && HAS_ENDED(2))
#else
#define ALL_ENDED (HAS_ENDED(0) && HAS_ENDED(1))
#endif

#define HAS_LOCK(p) (owner[SEND_LOCK] == p + 1 || owner[RECEIVE_LOCK] == p + 1)
#define MAY_BE_HIT(p) (!dead[p] && !ended[p] && !is_stopped[p] && (!HOLDERS_DIE || HAS_LOCK(p)))

inline choose(p)
{
    if
#ifdef VICTIM
    :: MAY_BE_HIT(VICTIM) -> p = VICTIM
#else
    :: MAY_BE_HIT(0) -> p = 0
    :: MAY_BE_HIT(1) -> p = 1
#if PEERS > 2
    :: MAY_BE_HIT(2) -> p = 2
#endif
#if PEERS > 3
    :: MAY_BE_HIT(3) -> p = 3
#endif
#endif
    fi
}

#if DEATHS
/* Kills processes (SIGKILL). */
active proctype killer()
{
    byte p = 0, left = DEATHS;
    do
    :: atomic { left != 0 -> choose(p);
        d_step { dead[p] = 1; flush(p); asleep[p] = 0; due[p] = 0 }
        d_step { ticket[p] = 0; lock_ticket[p] = 0; wake_ticket[p] = 0; passed[p] = 0 } };
        /* Its descriptors are closed later. */
        d_step {
            lock_is_free[p] = 1;
            q = 0;
            do
            :: q < PEERS -> if :: remover[q] == p + 1 -> remover[q] = 0 :: else fi; q++
            :: else -> break
            od;
            q = 0; ticks = 0; hit_once = 1; p = 0; left--
        }
    :: true -> break
    od
}
#endif

#if STOPS
/* Stops processes (SIGSTOP) and lets them continue, or not. The kernel takes a stopped process out of the
   futex's queue. When it continues, the system call starts again. */
active proctype stopper()
{
    byte p = 0, left = STOPS;
    do
#if STOPS_FOR_EVER == 2
    :: d_step { left != 0 && MAY_BE_HIT(VICTIM) && owner[0] != VICTIM + 1 && owner[1] != VICTIM + 1 ->
        is_stopped[VICTIM] = 1; flush(VICTIM); asleep[VICTIM] = 0; due[VICTIM] = 0; left--;
        stopped_for_ever[VICTIM] = 1; hit_once = 1; ticks = 0 }
#else
    :: atomic { left != 0 -> choose(p);
        d_step { is_stopped[p] = 1; flush(p); interrupted[p] = asleep[p]; asleep[p] = 0; left-- } };
        if
        :: true ->
            d_step {
                if
                :: (!dead[p] && interrupted[p] != 0 && flag[interrupted[p]] != 0
                    && (ticket[p] == interrupted[p] || lock_ticket[p] == interrupted[p])) ->
                    asleep[p] = interrupted[p]
                :: else
                fi;
                interrupted[p] = 0; is_stopped[p] = 0; p = 0
            }
#if STOPS_FOR_EVER == 1
        :: atomic { true -> stopped_for_ever[p] = 1; p = 0 }
#endif
        fi
#endif
    :: true -> break
    od
}
#endif

#if TIME == TICKS
active proctype clock()
{
    do
    :: atomic { timeout && !ALL_ENDED ->
        d_step {
            recent = 0;
            q = 0;
            do
            :: q < PEERS ->
                if :: due[q] -> due[q]-- :: else fi;
                q++
            :: else -> break
            od;
            q = 0;
            assert(hit_once); /* else a wake was lost */
            if :: ticks <= TICKS_MAX -> ticks++ :: else fi;
            assert(ticks <= TICKS_MAX)
        } }
    od
}
#endif

#if TIME == ANY
active proctype clock()
{
    do
    :: recent -> recent = 0
    :: DEADLINES && !expired -> expired = 1
    od
}
#endif

ltl ends { <> ALL_ENDED }
