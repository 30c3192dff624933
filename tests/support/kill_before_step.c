/* Preloaded into a process: it kills itself, as `kill -9` would, before the n-th of its calls that change what lies in a
   folder, or make that last. They are counted from when the file STEPS_FROM exists, and named there. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static char *from;
static int kill_at, steps;

__attribute__((constructor)) static void begin(void) {
    from = getenv("STEPS_FROM");
    kill_at = getenv("KILL_BEFORE_STEP") ? atoi(getenv("KILL_BEFORE_STEP")) : 0;
    /* This process alone, not those that it starts. */
    unsetenv("LD_PRELOAD");
}

static void step(const char *name) {
    int log = from ? open(from, O_WRONLY | O_APPEND) : -1;
    if (log < 0) return;
    if (write(log, name, strlen(name)) < 0 || write(log, "\n", 1) < 0) abort();
    close(log);
    if (__sync_add_and_fetch(&steps, 1) == kill_at) kill(getpid(), SIGKILL);
}

#define STEP(result, name, parameters, ...)                             \
    result name parameters {                                            \
        static result(*real) parameters;                                \
        if (!real) real = (result(*) parameters)dlsym(RTLD_NEXT, #name); \
        step(#name);                                                       \
        return real(__VA_ARGS__);                                       \
    }

STEP(int, rename, (const char *old, const char *new), old, new)
STEP(int, unlink, (const char *path), path)
STEP(int, unlinkat, (int folder, const char *path, int flags), folder, path, flags)
STEP(int, mkdir, (const char *path, mode_t mode), path, mode)
STEP(int, chmod, (const char *path, mode_t mode), path, mode)
STEP(int, fsync, (int file), file)
STEP(int, fdatasync, (int file), file)
