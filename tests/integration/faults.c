/* Faults of file-system calls, for LD_PRELOAD.

   fault_arm(n, mode): the n-th call that changes a file below $FAULT_DIR kills the process (mode 1), or it and
   all later ones that need space fail with ENOSPC (mode 2). fault_count() returns the number of calls since.
   $FAULT_CALL and $FAULT_MODE arm it at the start of the process. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NONE, KILL, FULL };
static atomic_long count, limit;
static atomic_int mode;

void fault_arm(long n, int new_mode) { count = 0; limit = n; mode = new_mode; }
long fault_count(void) { return count; }

__attribute__((constructor)) static void arm_at_start(void) {
    const char *n = getenv("FAULT_CALL"), *m = getenv("FAULT_MODE");
    if (n && m) fault_arm(atol(n), atoi(m));
}

static int is_below(const char *path) {
    const char *folder = getenv("FAULT_DIR");
    return folder && path && strncmp(path, folder, strlen(folder)) == 0;
}

/* Return whether the call must fail. */
static int fails(const char *path, int needs_space) {
    if (!is_below(path)) return 0;
    long n = ++count;
    if (mode == KILL && n == limit) kill(getpid(), SIGKILL);
    if (mode != FULL || n < limit || !needs_space) return 0;
    errno = ENOSPC;
    return 1;
}

static int fails_at(int folder, const char *path, int needs_space) {
    char link[64], full[PATH_MAX * 2], base[PATH_MAX];
    if (path && path[0] == '/') return fails(path, needs_space);
    snprintf(link, sizeof link, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
    ssize_t length = readlink(link, base, sizeof base - 1);
    if (length < 0) return 0;
    base[length] = 0;
    snprintf(full, sizeof full, "%s%s%s", base, path ? "/" : "", path ? path : "");
    return fails(full, needs_space);
}

#define REAL(name, ...) \
    static __typeof__(name) *real; \
    if (!real) real = dlsym(RTLD_NEXT, #name); \
    return real(__VA_ARGS__)
#define CREATES(flags) (((flags) & O_CREAT) || ((flags) & O_TRUNC))
#define MODE(flags, last) \
    mode_t bits = 0; \
    if (((flags) & O_CREAT) || ((flags) & O_TMPFILE) == O_TMPFILE) { \
        va_list rest; va_start(rest, last); bits = va_arg(rest, mode_t); va_end(rest); }

int open(const char *path, int flags, ...) {
    MODE(flags, flags)
    if (CREATES(flags) && fails_at(AT_FDCWD, path, 1)) return -1;
    REAL(open, path, flags, bits);
}
int open64(const char *path, int flags, ...) {
    MODE(flags, flags)
    if (CREATES(flags) && fails_at(AT_FDCWD, path, 1)) return -1;
    REAL(open64, path, flags, bits);
}
int openat(int folder, const char *path, int flags, ...) {
    MODE(flags, flags)
    if (CREATES(flags) && fails_at(folder, path, 1)) return -1;
    REAL(openat, folder, path, flags, bits);
}
int openat64(int folder, const char *path, int flags, ...) {
    MODE(flags, flags)
    if (CREATES(flags) && fails_at(folder, path, 1)) return -1;
    REAL(openat64, folder, path, flags, bits);
}

#define CALL(type, name, parameters, folder, path, needs_space, ...) \
    type name parameters { if (fails_at(folder, path, needs_space)) return -1; REAL(name, __VA_ARGS__); }
CALL(ssize_t, write, (int fd, const void *data, size_t n), fd, NULL, 1, fd, data, n)
CALL(ssize_t, writev, (int fd, const struct iovec *data, int n), fd, NULL, 1, fd, data, n)
CALL(ssize_t, pwrite, (int fd, const void *data, size_t n, off_t at), fd, NULL, 1, fd, data, n, at)
CALL(ssize_t, pwrite64, (int fd, const void *data, size_t n, off64_t at), fd, NULL, 1, fd, data, n, at)
CALL(ssize_t, pwritev, (int fd, const struct iovec *data, int n, off_t at), fd, NULL, 1, fd, data, n, at)
CALL(int, fsync, (int fd), fd, NULL, 1, fd)
CALL(int, fdatasync, (int fd), fd, NULL, 1, fd)
CALL(int, ftruncate, (int fd, off_t n), fd, NULL, 1, fd, n)
CALL(int, ftruncate64, (int fd, off64_t n), fd, NULL, 1, fd, n)
CALL(int, mkdir, (const char *path, mode_t bits), AT_FDCWD, path, 1, path, bits)
CALL(int, mkdirat, (int folder, const char *path, mode_t bits), folder, path, 1, folder, path, bits)
CALL(int, rename, (const char *old, const char *new), AT_FDCWD, new, 1, old, new)
CALL(int, renameat, (int a, const char *old, int b, const char *new), b, new, 1, a, old, b, new)
CALL(int, link, (const char *old, const char *new), AT_FDCWD, new, 1, old, new)
CALL(int, unlink, (const char *path), AT_FDCWD, path, 0, path)
CALL(int, unlinkat, (int folder, const char *path, int flags), folder, path, 0, folder, path, flags)
CALL(int, rmdir, (const char *path), AT_FDCWD, path, 0, path)
