/* One execution, as Relacy repeats it. */
#ifndef MODEL_SUITE_HPP
#define MODEL_SUITE_HPP

#include "model/processes.hpp"

namespace {

struct suite : rl::test_suite<suite, MODEL_THREADS> {
    void before()
    {
        for (; made_count != 0; made_count--) { /* of an execution that failed */
            cells[made[made_count - 1]].made = false;
        }
        checking = false; /* true after an execution that failed at its end */
        now = START;
        pauses = deaths = stops = sleeps = 0;
        for (int thread = 0; thread < MODEL_THREADS; thread++) {
            processes[thread] = process();
            pending[thread].site = nullptr;
            last_point[thread] = "(none)";
        }
        for (int place = 0; place < PEERS; place++) {
            lock_holders[place] = first_holders[place];
        }
        if (scenario->begin != nullptr) {
            scenario->begin();
        }
    }
    void thread(unsigned index)
    {
        if (_setjmp(processes[index].top) == 0) {
            scenario->thread((int)index);
            perform_pending();
        }
        finish();
    }
    void after()
    {
        checking = true;
        if (scenario->end != nullptr) {
            scenario->end();
        }
        checking = false;
        destroy_cells();
    }
    void invariant() {}
};

} // namespace

#endif
