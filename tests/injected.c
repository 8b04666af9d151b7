/*
 * Makes chosen system calls of a process fail, as its disk would: loaded before the
 * C library (LD_PRELOAD), told what to do through memory that it shares with the test
 * (INJECTED, a file). Only calls count that concern what is below one folder.
 * tests/injection.py has the other side of the memory, and says how to use it.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

/* Classes of calls, in the order of injection.Class. */
enum { LOOK, OPEN, OPEN_TO_WRITE, READ, LOCK, MAKE, WRITE, SYNC, REMOVE, CHANGE, CLOSE };

/* When a call fails, as injection.When. */
enum { NEVER, ONCE, FROM_ON };

/* How, as injection.How. */
enum { INSTEAD, AFTERWARDS, IN_PART };

#define LINES 4096

struct line {
    int32_t class;
    char text[124];
};

struct memory {
    int32_t when, nth, error, how;
    uint32_t classes;
    _Atomic int32_t seen, failed;
    char folder[256];
    struct line lines[LINES];
};

static struct memory *memory;

#define REAL(name) \
    static __typeof__(&name) real; \
    if (real == NULL) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static long call(long number, long a, long b, long c, long d, long e, long f)
{
    REAL(syscall);
    return real(number, a, b, c, d, e, f);
}

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("INJECTED");
    if (path == NULL) return;
    int file = call(SYS_openat, AT_FDCWD, (long)path, O_RDWR | O_CLOEXEC, 0, 0, 0);
    if (file < 0) return;
    void *shared = mmap(NULL, sizeof(struct memory), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    call(SYS_close, file, 0, 0, 0, 0, 0);
    if (shared != MAP_FAILED) memory = shared;
}

/* The name of an open file, or of one below an open folder. */
static void resolve(char *name, size_t size, int handle, const char *path)
{
    char link[64];
    name[0] = 0;
    if (path != NULL && path[0] == '/' && strncmp(path, "/proc/self/fd/", 14) != 0) {
        snprintf(name, size, "%s", path);
        return;
    }
    if (path != NULL && path[0] == '/')
        snprintf(link, sizeof link, "%s", path);
    else if (handle >= 0)
        snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    else
        return;
    long length = call(SYS_readlinkat, AT_FDCWD, (long)link, (long)name, size - 1, 0, 0);
    if (length < 0) length = 0;
    name[length] = 0;
    if (path != NULL && path[0] != '/' && path[0] != 0)
        snprintf(name + length, size - length, "/%s", path);
}

/* How a call fails, or -1; it is counted if it concerns the folder. */
static int fails(int class, const char *what, int handle, const char *path)
{
    char name[1024];
    if (memory == NULL || memory->folder[0] == 0) return -1;
    int before = errno;
    resolve(name, sizeof name, handle, path);
    errno = before;
    size_t length = strlen(memory->folder);
    if (strncmp(name, memory->folder, length) != 0) return -1;
    int nth = atomic_fetch_add(&memory->seen, 1) + 1;
    if (nth <= LINES) {
        struct line *line = &memory->lines[nth - 1];
        line->class = class;
        snprintf(line->text, sizeof line->text, "%s %s", what, name + length);
    }
    int due = memory->when == ONCE ? nth == memory->nth
                                   : memory->when == FROM_ON && nth >= memory->nth;
    if (!due || !(memory->classes >> class & 1)) return -1;
    atomic_fetch_add(&memory->failed, 1);
    return memory->how;
}

/* A call that has done its work or not, and says no. */
#define CALL(failure, class, what, handle, path, real_call) \
    do { \
        int how = fails(class, what, handle, path); \
        if (how < 0 || how == IN_PART) return real_call; \
        if (how == AFTERWARDS) (void)!(real_call); \
        errno = memory->error; \
        return failure; \
    } while (0)

static int class_of_open(int flags)
{
    if (flags & O_CREAT) return MAKE;
    return (flags & O_ACCMODE) == O_RDONLY ? OPEN : OPEN_TO_WRITE;
}

/* A file that was opened all the same would stay open: so it fails before. */
#define OPENED(class, handle, path, real_call) \
    do { \
        if (fails(class, class == MAKE ? "create" : "open", handle, path) >= 0) { \
            errno = memory->error; \
            return -1; \
        } \
        return real_call; \
    } while (0)

#define MODE(flags) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list more; \
        va_start(more, flags); \
        mode = va_arg(more, mode_t); \
        va_end(more); \
    }

int open(const char *path, int flags, ...)
{
    MODE(flags);
    REAL(open);
    OPENED(class_of_open(flags), AT_FDCWD, path, real(path, flags, mode));
}

int open64(const char *path, int flags, ...)
{
    MODE(flags);
    REAL(open64);
    OPENED(class_of_open(flags), AT_FDCWD, path, real(path, flags, mode));
}

int openat(int folder, const char *path, int flags, ...)
{
    MODE(flags);
    REAL(openat);
    OPENED(class_of_open(flags), folder, path, real(folder, path, flags, mode));
}

int openat64(int folder, const char *path, int flags, ...)
{
    MODE(flags);
    REAL(openat64);
    OPENED(class_of_open(flags), folder, path, real(folder, path, flags, mode));
}

long syscall(long number, ...)
{
    long a[6];
    va_list more;
    va_start(more, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(more, long);
    va_end(more);
    if (number == SYS_openat2) {
        int flags = *(uint64_t *)a[2];
        OPENED(class_of_open(flags), (int)a[0], (const char *)a[1],
               call(number, a[0], a[1], a[2], a[3], a[4], a[5]));
    }
    return call(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

#define FUNCTION(result, failure, class, name, parameters, arguments, handle, path) \
    result name parameters \
    { \
        REAL(name); \
        CALL(failure, class, #name, handle, path, real arguments); \
    }

#define INT(class, name, parameters, arguments, handle, path) \
    FUNCTION(int, -1, class, name, parameters, arguments, handle, path)
#define SIZE(class, name, parameters, arguments, handle) \
    FUNCTION(ssize_t, -1, class, name, parameters, arguments, handle, NULL)

INT(MAKE, mkdir, (const char *p, mode_t m), (p, m), AT_FDCWD, p)
INT(MAKE, mkdirat, (int f, const char *p, mode_t m), (f, p, m), f, p)
INT(MAKE, rename, (const char *p, const char *q), (p, q), AT_FDCWD, p)
INT(MAKE, renameat, (int f, const char *p, int g, const char *q), (f, p, g, q), f, p)
INT(MAKE, link, (const char *p, const char *q), (p, q), AT_FDCWD, p)
INT(MAKE, linkat, (int f, const char *p, int g, const char *q, int n), (f, p, g, q, n), f, p)
INT(REMOVE, unlink, (const char *p), (p), AT_FDCWD, p)
INT(REMOVE, unlinkat, (int f, const char *p, int n), (f, p, n), f, p)
INT(REMOVE, rmdir, (const char *p), (p), AT_FDCWD, p)
INT(CHANGE, utimes, (const char *p, const struct timeval t[2]), (p, t), AT_FDCWD, p)
INT(CHANGE, utimensat, (int f, const char *p, const struct timespec t[2], int n), (f, p, t, n), f, p)
INT(CHANGE, ftruncate, (int f, off_t n), (f, n), f, NULL)
INT(CHANGE, ftruncate64, (int f, off64_t n), (f, n), f, NULL)
INT(SYNC, fsync, (int f), (f), f, NULL)
INT(SYNC, fdatasync, (int f), (f), f, NULL)
INT(LOCK, flock, (int f, int n), (f, n), f, NULL)
INT(LOOK, stat, (const char *p, struct stat *s), (p, s), AT_FDCWD, p)
INT(LOOK, stat64, (const char *p, struct stat64 *s), (p, s), AT_FDCWD, p)
INT(LOOK, lstat, (const char *p, struct stat *s), (p, s), AT_FDCWD, p)
INT(LOOK, lstat64, (const char *p, struct stat64 *s), (p, s), AT_FDCWD, p)
INT(LOOK, fstat, (int f, struct stat *s), (f, s), f, NULL)
INT(LOOK, fstat64, (int f, struct stat64 *s), (f, s), f, NULL)
INT(LOOK, fstatat, (int f, const char *p, struct stat *s, int n), (f, p, s, n), f, p)
INT(LOOK, fstatat64, (int f, const char *p, struct stat64 *s, int n), (f, p, s, n), f, p)
INT(LOOK, access, (const char *p, int n), (p, n), AT_FDCWD, p)
INT(LOOK, faccessat, (int f, const char *p, int n, int m), (f, p, n, m), f, p)
INT(LOOK, statvfs, (const char *p, struct statvfs *s), (p, s), AT_FDCWD, p)
INT(LOOK, statvfs64, (const char *p, struct statvfs64 *s), (p, s), AT_FDCWD, p)
INT(LOOK, fstatvfs, (int f, struct statvfs *s), (f, s), f, NULL)
INT(LOOK, fstatvfs64, (int f, struct statvfs64 *s), (f, s), f, NULL)
FUNCTION(ssize_t, -1, LOOK, readlink, (const char *p, char *b, size_t n), (p, b, n), AT_FDCWD, p)
FUNCTION(ssize_t, -1, LOOK, readlinkat, (int f, const char *p, char *b, size_t n), (f, p, b, n), f, p)
FUNCTION(DIR *, NULL, OPEN, opendir, (const char *p), (p), AT_FDCWD, p)
FUNCTION(struct dirent64 *, NULL, READ, readdir64, (DIR *d), (d), dirfd(d), NULL)
SIZE(READ, read, (int f, void *b, size_t n), (f, b, n), f)
SIZE(READ, pread64, (int f, void *b, size_t n, off64_t o), (f, b, n, o), f)
SIZE(READ, preadv2, (int f, const struct iovec *v, int n, off_t o, int g), (f, v, n, o, g), f)
SIZE(READ, preadv64v2, (int f, const struct iovec *v, int n, off64_t o, int g), (f, v, n, o, g), f)
SIZE(READ, sendfile64, (int s, int f, off64_t *o, size_t n), (s, f, o, n), f)
SIZE(READ, sendfile, (int s, int f, off_t *o, size_t n), (s, f, o, n), f)

/* What failed in part has written half. */
ssize_t write(int file, const void *octets, size_t length)
{
    REAL(write);
    int how = fails(WRITE, "write", file, NULL);
    if (how == IN_PART) return real(file, octets, (length + 1) / 2);
    if (how < 0) return real(file, octets, length);
    errno = memory->error;
    return -1;
}

/* A file is closed, whatever close says; and it has something to say of written ones. */
int close(int file)
{
    REAL(close);
    int flags = call(SYS_fcntl, file, F_GETFL, 0, 0, 0, 0);
    int written = flags >= 0 && (flags & O_ACCMODE) != O_RDONLY;
    int how = written ? fails(CLOSE, "close", file, NULL) : -1;
    int done = real(file);
    if (how < 0 || how == IN_PART) return done;
    errno = memory->error;
    return -1;
}
