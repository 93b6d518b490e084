#pragma once
#include <ipckit_posix.h>
