/* Many publishers and subscribers on one topic at the same time: threads for TSan, processes for ASan.

   Copies, batches, loans, views kept while publishers drop messages, subscribers of all policies, some that
   come and leave, one that polls a descriptor, and threads that share a handle; little memory, so that
   it is full and at its end all the time. test_topic MESSAGES SECONDS; exits 0, or says what was wrong. */
#include "topic_workers.h"

#include <poll.h>

#define PUBLISHERS 3
#define SUBSCRIBERS 7
#define WORKERS (PUBLISHERS + SUBSCRIBERS)

enum { WAITS, WAITS_LITTLE, WAITS_IN_TWO, NEWEST, VIEWS, GUEST, POLLS };

typedef struct {
    worker own;
    worker *w;
    int id;
    uint32_t spin;
} player;

static uint64_t messages;    /* of each publisher */
static uint64_t scale;       /* of the depths */

static topic_wishes
wishes_of(int id)
{
    const topic_wishes wishes[SUBSCRIBERS] = {
        [WAITS] = {.depth = 20 * scale},
        [WAITS_LITTLE] = {.depth = scale},
        [WAITS_IN_TWO] = {.depth = 7 * scale},
        [NEWEST] = {.drops = true, .depth = 1},
        [VIEWS] = {.drops = true, .depth = 20 * scale},
        [GUEST] = {.drops = below(2), .depth = 3, .history = below(9)},
        [POLLS] = {.drops = true, .depth = 9 * scale},
    };
    return wishes[id];
}

/* -- publishers ------------------------------------------------------------------------------------ */

static void
publish_all(worker *w)
{
    while (w->published < messages) {
        work_to_publish(w);
    }
    let_go(w);
    __atomic_fetch_sub(&counted->publishers, 1, __ATOMIC_SEQ_CST);
}

/* -- subscribers ----------------------------------------------------------------------------------- */

/* Waits with poll(2), as a program does, until there is a message or no publisher is left. */
static bool
wait_by_poll(ring_descriptors *d)
{
    struct pollfd one = {.fd = d->fd[0], .events = POLLIN};
    for (;;) {
        descriptor_update_items(d);
        bool over = __atomic_load_n(&counted->publishers, __ATOMIC_SEQ_CST) == 0;
        if (poll(&one, 1, over ? 0 : 20) > 0) {
            return true;
        }
        if (over && !ring_has_items(d->r)) {
            return false;
        }
        check(!ring_has_items(d->r) || poll(&one, 1, 60000) > 0 || !ring_has_items(d->r),
              "a message waits, and the descriptor does not say so");
    }
}

static void
receive_by_poll(worker *w)
{
    ring_descriptors *descriptors = descriptors_new(&w->subscriber->r);
    check(descriptors != NULL && descriptor_get(descriptors, POLL_ITEMS) >= 0, "no descriptor");
    w->patient = false;
    while (wait_by_poll(descriptors)) {
        while (work_receive(w, below(2)) == RING_OK && w->views.count < HELD) {
        }
        while (w->views.count > 0) {
            work_release(w);
        }
    }
    descriptors_free(descriptors);
}

/* Comes and leaves, until no publisher is left. */
static void
receive_as_guest(worker *w)
{
    while (__atomic_load_n(&counted->publishers, __ATOMIC_SEQ_CST) != 0) {
        w->wishes = wishes_of(GUEST);
        if (w->subscribed || work_subscribe(w)) {
            for (uint64_t steps = below(60); steps > 0; steps--) {
                work_to_receive(w);
            }
            work_unsubscribe(w);
        }
    }
}

static void
receive_all(worker *w, int id)
{
    if (id == POLLS) {
        receive_by_poll(w);
    } else if (id == GUEST) {
        receive_as_guest(w);
    } else {
        while (work_to_receive(w) != RING_GONE) {
        }
    }
    while (w->views.count > 0) {
        work_release(w);
    }
}

/* Checks that a subscriber got or missed each message. */
static void
check_received(const worker *w, int id)
{
    uint64_t tail = w->subscriber->r.shared->tail, lost;
    if (id == GUEST || !w->subscribed) {
        return;
    }
    topic_unread(&w->subscriber->r, w->subscriber->r.subscriber, &lost);
    check(lost + w->all_received == tail, "messages are missing");
    check(w->wishes.drops || lost == 0, "a subscriber that is waited for lost messages");
}

/* -- all ------------------------------------------------------------------------------------------- */

static bool
is_publisher(int id)
{
    return id < PUBLISHERS;
}

static void
prepare(player *p, int id, uint32_t spin)
{
    p->id = id;
    p->w = &p->own;
    worker_open(p->w, is_publisher(id), !is_publisher(id));
    p->w->patient = true;
    p->w->ends = true;
    if (is_publisher(id)) {
        p->w->publisher->spin = spin;
        ring_add_role(&p->w->publisher->r, ROLE_SENDER);
    } else {
        p->w->wishes = wishes_of(id - PUBLISHERS);
        check(work_subscribe(p->w), "no place");
        p->w->subscriber->spin = spin;
    }
}

static void
play(player *p)
{
    seed_chance((uint64_t)p->id + 33);
    if (is_publisher(p->id)) {
        publish_all(p->w);
    } else {
        receive_all(p->w, p->id - PUBLISHERS);
    }
}

static void *
play_in_thread(void *of)
{
    play(of);
    return NULL;
}

static void
begin(ring_shape shape, uint64_t history)
{
    ledger_new((uint32_t)(PUBLISHERS * messages / EACH * 3 + 100));
    counted->publishers = PUBLISHERS;
    shared = topic_make(shape, history);
    scale = shape.capacity / 20;
}

static void
end(void)
{
    worker last;
    worker_open(&last, true, false);
    drain(&last);
    check_ledger(last.publisher->r.shared->tail);
    check(last.publisher->r.shared->tail >= PUBLISHERS * messages, "messages are missing");
    worker_close(&last);
    channel_unmake(&shared);
    ledger_free();
}

/* The last publisher shares the handle of the one before, and two threads share a subscription. */
static void
test_threads(ring_shape shape, uint64_t history, uint32_t spin)
{
    static player players[WORKERS + 1];
    pthread_t threads[WORKERS + 1];
    begin(shape, history);
    for (int id = 0; id < WORKERS; id++) {
        prepare(&players[id], id, spin);
    }
    player *twin = &players[WORKERS], *first = &players[PUBLISHERS + WAITS_IN_TWO];
    first->w->alone = false;
    *twin = *first;
    twin->w = &twin->own;
    twin->w->subscriber = first->w->subscriber;
    handle_close(players[PUBLISHERS - 1].w->publisher);
    players[PUBLISHERS - 1].w->publisher = players[PUBLISHERS - 2].w->publisher;
    for (int id = 0; id <= WORKERS; id++) {
        check(pthread_create(&threads[id], NULL, play_in_thread, &players[id]) == 0, "no thread");
    }
    for (int id = 0; id <= WORKERS; id++) {
        pthread_join(threads[id], NULL);
        if (id == PUBLISHERS - 1) { /* subscribers end when the last publisher leaves */
            for (int gone = 0; gone < PUBLISHERS - 1; gone++) {
                handle_close(players[gone].w->publisher);
            }
        }
    }
    first->w->all_received += twin->w->all_received;
    for (int id = PUBLISHERS; id < WORKERS; id++) {
        check_received(players[id].w, id - PUBLISHERS);
        if (players[id].w->subscribed) {
            work_unsubscribe(players[id].w);
        }
    }
    end();
}

static void
run_process(int id, uint32_t spin)
{
    player own;
    seed_chance((uint64_t)id + 1);
    prepare(&own, id, spin);
    __atomic_fetch_add(&counted->ready, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&counted->ready, __ATOMIC_SEQ_CST) < WORKERS) {
        usleep(100);
    }
    play(&own);
    if (!is_publisher(id)) {
        check_received(own.w, id - PUBLISHERS);
    }
    worker_close(own.w);
    _exit(0);
}

static void
test_processes(ring_shape shape, uint64_t history, uint32_t spin)
{
    begin(shape, history);
    for (int id = 0; id < WORKERS; id++) {
        pid_t pid = fork();
        check(pid >= 0, "no process");
        if (pid == 0) {
            run_process(id, spin);
        }
    }
    for (int id = 0; id < WORKERS; id++) {
        int status;
        check(wait(&status) > 0 && status == 0, "a process failed");
    }
    end();
}

int
main(int argc, char **argv)
{
    messages = argc > 1 ? (uint64_t)atol(argv[1]) : 2000;
    alarm(argc > 2 ? (unsigned)atoi(argv[2]) : 100); /* a hang is a failure */
    for (uint32_t spin = 0; spin <= 100; spin += 100) {
        ring_shape little = topic_of_any(128, 70, 20), more = topic_of_any(515, 300, 200);
        test_threads(little, 8, spin);
        test_threads(more, 0, spin);
        test_processes(little, 3, spin);
        test_processes(more, 8, spin);
    }
    puts("ok");
    return 0;
}
