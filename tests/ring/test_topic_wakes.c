/* No peer of a topic sleeps through what it waits for: publishers and subscribers that never spin, in
   processes of their own, where no regular check makes up for a wake that did not come.
       test_topic_wakes ROUNDS */
static void ring_point(const char *name);
#define RING_POINT(name) ring_point(#name)
#include "ring_wakes.h"
#include "topic_harness.h"

#include <dirent.h>
#include <sys/prctl.h>

/* Long enough that a message is still on its way to memory when its publisher looks who sleeps. */
enum { IN_ARENA = 4000, IN_BLOCK = 6000, MOST = 12 };

static uint32_t *stage; /* shared: what a process has done */
static int unlocks;     /* not 0: this process is held up when it releases a lock for so many times */

static void
wait_for(uint32_t *word, uint32_t value)
{
    while (__atomic_load_n(word, __ATOMIC_SEQ_CST) < value) {
        usleep(100);
    }
}

static void
ring_point(const char *name)
{
    if (unlocks != 0 && strcmp(name, "unlocking") == 0 && --unlocks == 0) {
        __atomic_store_n(stage, 1, __ATOMIC_SEQ_CST);
        wait_for(stage, 2);
    }
}

/* A process that ends with this one. */
static pid_t
fork_child(void)
{
    pid_t pid = fork();
    check(pid >= 0, "no process");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    }
    return pid;
}

static void
enter(bool drops, uint64_t depth)
{
    topic_wishes wishes = {.drops = drops, .depth = depth, .history = 1};
    ring_call call = subscribe_call(&mine, &wishes, INT64_MAX);
    check(subscribe(&mine, &call) == RING_OK, "no place");
}

/* -- processes ------------------------------------------------------------------------------------- */

/* What a process does: publishes, or receives each message. */
typedef struct {
    int publishers, subscribers;
    uint64_t depth;    /* of the subscribers */
    uint64_t messages; /* of each publisher */
    bool pauses;       /* subscribers wait for a moment, so that others are awake or asleep by turns */
} plan;

static uint32_t *ready;

static void
run_one(const plan *p, bool publishes, uint64_t length)
{
    seed_chance((uint64_t)getpid());
    topic_open(&mine, &shared);
    if (!publishes) {
        enter(false, p->depth);
    }
    __atomic_fetch_add(ready, 1, __ATOMIC_SEQ_CST);
    wait_for(ready, (uint32_t)(p->publishers + p->subscribers));
    uint64_t all = publishes ? p->messages : p->messages * (uint64_t)p->publishers;
    for (uint64_t i = 0; i < all; i++) {
        must(publishes ? op_send : op_receive, publishes ? length : sizeof data);
        for (uint64_t spin = p->pauses ? below(2000) : 0; spin > 0; spin--) {
            cpu_relax();
        }
    }
    _exit(0); /* without ring_leave, which wakes all */
}

static void
run(ring_shape shape, plan p)
{
    shared = topic_make(shape, 0);
    *ready = 0;
    pid_t pids[MOST];
    int all = p.publishers + p.subscribers;
    for (int i = 0; i < all; i++) {
        pids[i] = fork_child();
        if (pids[i] == 0) {
            run_one(&p, i < p.publishers, shape.item_size);
        }
    }
    for (int i = 0; i < all; i++) {
        must_end(pids[i]);
    }
    channel_unmake(&shared);
}

/* -- one process that waits ------------------------------------------------------------------------- */

/* Starts a process that does one thing, and returns when it sleeps. */
static pid_t
start_asleep(ring_operation operation, uint64_t length)
{
    pid_t pid = fork_child();
    if (pid == 0) {
        topic_open(&mine, &shared);
        if (operation == op_receive) {
            enter(false, 1);
            for (uint64_t kept = mine.r.shared->tail; mine.r.subscriber->cursor < kept;) {
                must(op_receive, sizeof data);
            }
        }
        uint32_t block = must(operation, length);
        _exit(operation == op_lend && release_block(&mine, block, BLOCK_LENT) != RING_OK);
    }
    wait_asleep(pid);
    return pid;
}

static void
open_mine(uint64_t granules, uint64_t capacity)
{
    ring_shape shape = {.units = 1024, .granules = granules, .granule = INLINE_MAX,
                        .capacity = capacity, .longest = granules * INLINE_MAX};
    shared = topic_make(shape, 1);
    topic_open(&mine, &shared);
}

/* As a publisher that has not woken anyone yet. */
static ring_result
publish_silently(void)
{
    channel_lock *lock = &mine.r.shared->send_lock;
    check(ring_lock(&mine.r, lock, INT64_MAX) == RING_OK, "no lock");
    ring_result result = topic_send(&mine.r, data, 100);
    ring_unlock(&mine.r, lock);
    return result;
}

/* A subscriber that has found nothing, and is about to sleep, is told of the message though those that
   sleep before it have received the message already. */
static void
test_a_sleeper_behind_others(void)
{
    pid_t others[2];
    open_mine(4, 8);
    *stage = 0;
    pid_t late = fork_child();
    if (late == 0) {
        topic_open(&mine, &shared);
        enter(false, 8);
        unlocks = 2; /* the first try, and the last one before it sleeps */
        must(op_receive, sizeof data);
        _exit(0);
    }
    wait_for(stage, 1);
    check(publish_silently() == RING_OK, "full");
    for (int i = 0; i < 2; i++) {
        others[i] = start_asleep(op_receive, sizeof data); /* for the second message */
    }
    ring_notify(&mine.r, POLL_ITEMS);
    wait_asleep(others[0]);
    wait_asleep(others[1]);
    __atomic_store_n(stage, 2, __ATOMIC_SEQ_CST);
    must_end(late);
    must(op_send, 100);
    must_end(others[0]);
    must_end(others[1]);
    close_mine();
}

/* A message wakes all subscribers, however many sleep. */
static void
test_a_message_wakes_all(void)
{
    for (int turn = 0; turn < 5; turn++) {
        pid_t sleepers[MOST];
        open_mine(4, 8);
        for (int i = 0; i < MOST; i++) {
            sleepers[i] = start_asleep(op_receive, sizeof data);
        }
        must(op_send, turn % 2 ? 100 : 2 * INLINE_MAX);
        for (int i = 0; i < MOST; i++) {
            must_end(sleepers[i]);
        }
        close_mine();
    }
}

static void *
receive_in_thread(void *unused)
{
    (void)unused;
    must(op_receive, sizeof data);
    return NULL;
}

/* Returns when all threads of this process but the first sleep. */
static void
wait_threads_asleep(void)
{
    char path[300], line[200];
    for (int awake = 1; awake != 0;) {
        usleep(20000);
        DIR *tasks = opendir("/proc/self/task");
        check(tasks != NULL, "no tasks");
        awake = -2; /* this thread, twice: ".." is the process */
        for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
            snprintf(path, sizeof path, "/proc/self/task/%s/stat", task->d_name);
            FILE *file = fopen(path, "r");
            if (file != NULL && fgets(line, sizeof line, file) != NULL) {
                awake += strstr(line, ") S ") == NULL;
            }
            if (file != NULL) {
                fclose(file);
            }
        }
        closedir(tasks);
    }
}

/* Threads of one subscription are woken, and another thread has taken the message. They wake the others. */
static void
test_threads_of_a_subscription(void)
{
    pthread_t threads[3];
    open_mine(4, 8);
    enter(false, 8);
    pid_t child = fork_child();
    if (child == 0) {
        for (int i = 0; i < 3; i++) {
            check(pthread_create(&threads[i], NULL, receive_in_thread, NULL) == 0, "no thread");
        }
        wait_threads_asleep();
        pid_t sleeper = start_asleep(op_receive, sizeof data);
        check(publish_silently() == RING_OK, "full");
        must(op_receive, sizeof data);
        ring_notify(&mine.r, POLL_ITEMS);
        must_end(sleeper);
        _exit(0);
    }
    must_end(child);
    close_mine();
}

/* Publishers that wait for a subscriber are woken when it reads, ends, or leaves; one after the other. */
static void
test_publishers_are_woken(void)
{
    for (int how = 0; how < 3; how++) {
        handle publisher;
        open_mine(4, 8);
        enter(false, 2);
        topic_open(&publisher, &shared);
        for (int i = 0; i < 2; i++) {
            ring_call call = call_of(&publisher, op_send, 0);
            call.data = data;
            call.length = 100;
            check(call_do(&publisher, &call) == RING_OK, "full");
        }
        pid_t first = start_asleep(op_send, 100), second = start_asleep(op_send, 200);
        if (how == 0) {
            must(op_receive, sizeof data);
            must(op_receive, sizeof data);
        } else if (how == 1) {
            topic_unsubscribe(&mine.r);
        } else {
            handle_close(&mine);
        }
        must_end(first);
        must_end(second);
        handle_close(&publisher);
        if (how == 2) {
            channel_unmake(&shared);
        } else {
            close_mine();
        }
    }
}

/* A publisher that waits for memory is woken by the last view of a message, or by the end of a loan; one
   that needs more passes the wake on. */
static void
test_a_free_block_wakes(bool view)
{
    open_mine(4, 8);
    enter(true, 8);
    uint32_t held[2];
    for (int i = 0; i < 2; i++) {
        ring_call call = call_of(&mine, view ? op_send : op_lend, 0);
        call.data = data;
        call.length = 2 * INLINE_MAX;
        check((view ? send_message : call_do)(&mine, &call) == RING_OK, "no block");
        if (view) {
            call = call_of(&mine, op_receive, 0);
            check(call_do(&mine, &call) == RING_OK, "no view");
        }
        held[i] = view ? call.message.block : call.block;
    }
    pid_t large = start_asleep(op_lend, 4 * INLINE_MAX), small = start_asleep(op_lend, 2 * INLINE_MAX);
    check(release_block(&mine, held[0], view ? BLOCK_READ : BLOCK_LENT) == RING_OK, "no release");
    must_end(small);
    check(release_block(&mine, held[1], view ? BLOCK_READ : BLOCK_LENT) == RING_OK, "no release");
    must_end(large);
    close_mine();
}

/* A publisher that waits for memory is woken when a loan becomes a message, which may be dropped. */
static void
test_a_sent_loan_wakes(void)
{
    open_mine(4, 8);
    enter(true, 8);
    uint32_t loan = must(op_lend, 4 * INLINE_MAX);
    pid_t sleeper = start_asleep(op_lend, 2 * INLINE_MAX);
    ring_call call = call_of(&mine, op_send_block, 0);
    call.block = loan;
    call.length = 4 * INLINE_MAX;
    check(call_do(&mine, &call) == RING_OK, "a loan can't be published");
    must_end(sleeper);
    close_mine();
}

int
main(int argc, char **argv)
{
    check(argc == 2, "how many rounds?");
    uint64_t rounds = strtoull(argv[1], NULL, 10), units = 128 * IN_ARENA / UNIT;
    ready = mmap(NULL, 2 * sizeof *ready, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check(ready != MAP_FAILED, "no memory");
    stage = ready + 1;
    ring_shape in_arena = topic_of_items(units, 4, 8, IN_ARENA);
    ring_shape in_blocks = topic_of_items(units, 4, 8, IN_BLOCK);
    for (int pauses = 0; pauses < 2; pauses++) {
        run(in_arena, (plan){1, 1, 1, rounds, pauses});  /* each sleeps for the other */
        run(in_blocks, (plan){1, 1, 1, rounds, pauses});
        run(in_arena, (plan){1, 4, 2, rounds, pauses});  /* several sleep for a message */
        run(in_arena, (plan){3, 1, 1, rounds, pauses});  /* several sleep for room */
        run(in_arena, (plan){3, 4, 8, rounds, pauses});
        run(in_blocks, (plan){2, 3, 4, rounds, pauses}); /* for blocks */
        run(in_arena, (plan){2, 9, 1, rounds, pauses});
    }
    test_a_message_wakes_all();
    test_a_sleeper_behind_others();
    test_threads_of_a_subscription();
    test_publishers_are_woken();
    test_a_free_block_wakes(false);
    test_a_free_block_wakes(true);
    test_a_sent_loan_wakes();
    puts("ok");
    return 0;
}
