/* Publishers and subscribers that kill themselves with SIGKILL at named points, or are killed wherever they
   are, while others continue.

   One subscriber lives through all of it and is waited for: it receives each message that was published,
   once, and no other message. All others see the same order and nothing torn, and count what they miss.
   test_topic_kills KILLS SEED SECONDS. */
static void ring_point(void);
#define RING_POINT(name) ring_point()
#include "topic_workers.h"

#include "ring_killed.h" /* after the point is defined */

static void
ring_point(void)
{
    die_by_fuse();
}

static void
publish_until_stopped(worker *w)
{
    int64_t waits_since = monotonic_ns();
    while (!stopping()) {
        uint64_t before = w->published;
        work_to_publish(w);
        if (below(30) == 0) {
            work_on_peers(w->publisher);
        }
        int64_t now = monotonic_ns();
        waits_since = w->published != before ? now : waits_since;
        check(now - waits_since < 20 * NS_PER_SECOND, "a publisher waits for a dead subscriber");
    }
}

static void
receive_until_stopped(worker *w, int place)
{
    const topic_wishes wishes[] = {{.depth = 1 + below(8), .history = below(4)},
                                   {.drops = true, .depth = 1},
                                   {.drops = true, .depth = 8, .history = 4}};
    w->wishes = wishes[place - 2];
    while (!stopping()) {
        if (!w->subscribed) {
            work_subscribe(w);
        } else if (below(100) == 0) {
            work_unsubscribe(w);
        } else {
            work_to_receive(w);
        }
    }
}

static pid_t
start(int place, uint64_t seed)
{
    pid_t pid = fork();
    check(pid >= 0, "no process");
    if (pid == 0) { /* two publish */
        worker own;
        seed_chance(seed);
        alarm(100);
        const uint64_t lives[] = {40, 600, 8000};
        fuse = stopping() || below(4) == 0 ? 0 : 1 + (long)below(lives[below(3)]);
        worker_open(&own, place < 2, place >= 2);
        if (own.publishes) {
            publish_until_stopped(&own);
        } else {
            receive_until_stopped(&own, place);
        }
        fuse = 0;
        worker_close(&own);
        _exit(0);
    }
    return pid;
}

/* Receives until one of them is dead, and kills one if none dies by itself. Returns its place. */
static int
one_dies(pid_t pids[PROCESSES], worker *w)
{
    int status = 0;
    pid_t pid = 0;
    int64_t until = monotonic_ns() + (int64_t)below(8) * NS_PER_MS;
    while (pid == 0 && monotonic_ns() < until) {
        work_receive(w, false);
        pid = waitpid(-1, &status, WNOHANG);
    }
    return kill_one(pids, pid, status);
}

/* Stops all. A process may yet come to its point, and is followed by one that does not. Returns how many
   died. */
static uint64_t
stop_all(pid_t pids[PROCESSES], worker *w)
{
    uint64_t died = 0;
    __atomic_store_n(&counted->stop, 1, __ATOMIC_RELEASE);
    for (int alive = PROCESSES; alive > 0;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid == 0) {
            work_receive(w, false);
            continue;
        }
        if (was_killed(status)) {
            died++;
            int place = place_of(pids, pid);
            pids[place] = start(place, random_number());
            continue;
        }
        alive--;
    }
    return died;
}

int
main(int argc, char **argv)
{
    uint64_t kills = argc > 1 ? (uint64_t)atol(argv[1]) : 200;
    uint64_t seed = argc > 2 ? (uint64_t)atol(argv[2]) : 1;
    alarm(argc > 3 ? (unsigned)atoi(argv[3]) : 100); /* a hang is a failure */
    pid_t pids[PROCESSES];
    worker own;
    seed_chance(seed);
    ledger_new(400000);
    shared = topic_make(seed % 2 ? topic_of_any(160, 60, 12) : topic_of_any(64, 30, 30), seed % 3 * 4);
    worker_open(&own, true, true);
    own.wishes = (topic_wishes){.depth = own.publisher->r.capacity};
    check(work_subscribe(&own), "no place");
    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = start(i, random_number());
    }
    for (uint64_t killed = 0; killed < kills; killed++) {
        int place = one_dies(pids, &own);
        pids[place] = start(place, random_number());
    }
    kills += stop_all(pids, &own);
    drain(&own);
    check_ledger(own.publisher->r.shared->tail);
    check(own.received == own.publisher->r.shared->tail, "not each message was received once");
    worker_close(&own);
    channel_unmake(&shared);
    printf("%llu kills\nok\n", (unsigned long long)kills);
    return 0;
}
