/* All scenarios. */
#include "model.h"

extern const model_scenario scenario_small;

const model_scenario *const model_scenarios[] = {&scenario_small, NULL};
