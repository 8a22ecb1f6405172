/* SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
 * SPDX-License-Identifier: Apache-2.0 */

/* Writes down all that a process does to the files below RECORD_DIR, so that a power cut can be played at each step.
 *
 * Loaded with LD_PRELOAD. Each change that succeeded, and each sync, is one record at the end of RECORD_LOG, in the
 * order in which they happened; recording.py reads them. While the file RECORD_BAD_SYNCS has bytes, each sync takes one
 * away and fails with EIO. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* As recording.py's _HEADER. */
struct header {
    char kind;
    char directory;
    uint16_t first_length;
    uint16_t second_length;
    uint16_t unused;
    uint64_t inode;
    int64_t offset;
    uint64_t data_length;
};

static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

static void record(struct header head, const char *first, const char *second, const void *data) {
    int saved = errno, log = open(getenv("RECORD_LOG"), O_WRONLY | O_APPEND | O_CLOEXEC);
    head.first_length = first ? strlen(first) : 0;
    head.second_length = second ? strlen(second) : 0;
    struct iovec parts[] = {
        {&head, sizeof head}, {(void *)first, head.first_length}, {(void *)second, head.second_length},
        {(void *)data, head.data_length},
    };
    if (log < 0 || writev(log, parts, 4) < 0) abort();
    close(log);
    errno = saved;
}

static int below(const char *path) {
    const char *top = getenv("RECORD_DIR");
    size_t length = top ? strlen(top) : 0;
    return length && !strncmp(path, top, length) && (!path[length] || path[length] == '/');
}

static int absolute(int at, const char *name, char *path) {
    char link[32];
    size_t length = 0;
    if (name[0] != '/') {
        snprintf(link, sizeof link, at == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", at);
        ssize_t got = readlink(link, path, PATH_MAX - 1);
        if (got < 0) return 0;
        length = got;
        path[length++] = '/';
    }
    snprintf(path + length, PATH_MAX - length, "%s", name);
    return below(path);
}

/* Whether the descriptor is of a file that counts. */
static int counts(int fd, uint64_t *inode) {
    char link[32], path[PATH_MAX];
    struct stat status;
    int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t got = readlink(link, path, sizeof path - 1);
    if (got > 0) path[got] = 0;
    int result = got > 0 && below(path) && !fstat(fd, &status) && (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode));
    if (result) *inode = status.st_ino;
    errno = saved;
    return result;
}

static uint64_t inode_of(const char *path, char *directory) {
    struct stat status;
    int saved = errno;
    if (lstat(path, &status)) abort();
    *directory = S_ISDIR(status.st_mode);
    errno = saved;
    return status.st_ino;
}

static int named(int at, const char *name, int flags, mode_t mode, int (*real)(int, const char *, int, ...)) {
    char path[PATH_MAX];
    struct stat status;
    if (!absolute(at, name, path)) return real(at, name, flags, mode);
    pthread_mutex_lock(&order);
    int saved = errno, old = !lstat(path, &status);
    errno = saved;
    int fd = real(at, name, flags, mode);
    if (fd >= 0 && (flags & O_CREAT) && !old) {
        struct header head = {.kind = 'C'};
        head.inode = inode_of(path, &head.directory);
        record(head, NULL, path, NULL);
    } else if (fd >= 0 && (flags & O_TRUNC) && S_ISREG(status.st_mode)) {
        record((struct header){.kind = 'T', .inode = status.st_ino}, NULL, NULL, NULL);
    }
    pthread_mutex_unlock(&order);
    return fd;
}

#define MODE() mode_t mode = 0; if (flags & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, flags); \
    mode = va_arg(rest, mode_t); va_end(rest); }

int open(const char *name, int flags, ...) { MODE(); return named(AT_FDCWD, name, flags, mode, REAL(openat)); }
int open64(const char *name, int flags, ...) { MODE(); return named(AT_FDCWD, name, flags, mode, REAL(openat64)); }
int openat(int at, const char *name, int flags, ...) { MODE(); return named(at, name, flags, mode, REAL(openat)); }
int openat64(int at, const char *name, int flags, ...) { MODE(); return named(at, name, flags, mode, REAL(openat64)); }

static int changed_name(char kind, int at, const char *name, int to, const char *new_name, int result) {
    char path[PATH_MAX], new_path[PATH_MAX];
    struct header head = {.kind = kind};
    if (result) return result;
    int from = name && absolute(at, name, path), into = new_name && absolute(to, new_name, new_path);
    if (!from && !into) return result;
    if (into) head.inode = inode_of(new_path, &head.directory);
    record(head, from ? path : NULL, into ? new_path : NULL, NULL);
    return result;
}

#define IN_ORDER(call) do { pthread_mutex_lock(&order); __typeof__(call) result = (call); \
    pthread_mutex_unlock(&order); return result; } while (0)

int mkdir(const char *name, mode_t mode) {
    IN_ORDER(changed_name('C', 0, NULL, AT_FDCWD, name, REAL(mkdir)(name, mode)));
}
int mkdirat(int at, const char *name, mode_t mode) {
    IN_ORDER(changed_name('C', 0, NULL, at, name, REAL(mkdirat)(at, name, mode)));
}
int rename(const char *name, const char *new_name) {
    IN_ORDER(changed_name('R', AT_FDCWD, name, AT_FDCWD, new_name, REAL(rename)(name, new_name)));
}
int renameat(int at, const char *name, int to, const char *new_name) {
    IN_ORDER(changed_name('R', at, name, to, new_name, REAL(renameat)(at, name, to, new_name)));
}
int link(const char *name, const char *new_name) {
    IN_ORDER(changed_name('L', 0, NULL, AT_FDCWD, new_name, REAL(link)(name, new_name)));
}
int linkat(int at, const char *name, int to, const char *new_name, int flags) {
    IN_ORDER(changed_name('L', 0, NULL, to, new_name, REAL(linkat)(at, name, to, new_name, flags)));
}
int symlink(const char *target, const char *new_name) {
    IN_ORDER(changed_name('C', 0, NULL, AT_FDCWD, new_name, REAL(symlink)(target, new_name)));
}
int unlink(const char *name) {
    IN_ORDER(changed_name('U', AT_FDCWD, name, 0, NULL, REAL(unlink)(name)));
}
int unlinkat(int at, const char *name, int flags) {
    IN_ORDER(changed_name('U', at, name, 0, NULL, REAL(unlinkat)(at, name, flags)));
}
int rmdir(const char *name) {
    IN_ORDER(changed_name('U', AT_FDCWD, name, 0, NULL, REAL(rmdir)(name)));
}

static ssize_t written(int fd, const void *data, off_t at, ssize_t size) {
    struct header head = {.kind = 'W', .offset = at, .data_length = size > 0 ? size : 0};
    if (size > 0 && counts(fd, &head.inode)) record(head, NULL, NULL, data);
    return size;
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    IN_ORDER(written(fd, data, at, REAL(pwrite)(fd, data, size, at)));
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    IN_ORDER(written(fd, data, at, REAL(pwrite64)(fd, data, size, at)));
}
ssize_t write(int fd, const void *data, size_t size) {
    uint64_t inode;
    if (!counts(fd, &inode)) return REAL(write)(fd, data, size);
    pthread_mutex_lock(&order);
    ssize_t done = REAL(write)(fd, data, size);
    if (done > 0) written(fd, data, lseek(fd, 0, SEEK_CUR) - done, done);
    pthread_mutex_unlock(&order);
    return done;
}

static int truncated(int fd, off_t size, int result) {
    struct header head = {.kind = 'T', .offset = size};
    if (!result && counts(fd, &head.inode)) record(head, NULL, NULL, NULL);
    return result;
}
int ftruncate(int fd, off_t size) { IN_ORDER(truncated(fd, size, REAL(ftruncate)(fd, size))); }
int ftruncate64(int fd, off64_t size) { IN_ORDER(truncated(fd, size, REAL(ftruncate64)(fd, size))); }

static int is_bad(void) {
    int saved = errno, file = syscall(SYS_open, getenv("RECORD_BAD_SYNCS"), O_RDWR | O_CLOEXEC);
    struct stat status;
    int bad = file >= 0 && !fstat(file, &status) && status.st_size > 0
        && !syscall(SYS_ftruncate, file, status.st_size - 1);
    if (file >= 0) close(file);
    errno = saved;
    return bad;
}

/* The sync itself is left out: the disk is made up, and a real one takes time. */
static int synced(int fd, int (*real)(int)) {
    struct header head = {.kind = 'S'};
    if (!counts(fd, &head.inode)) return real(fd);
    if (is_bad()) head.kind = 'F';
    record(head, NULL, NULL, NULL);
    if (head.kind == 'S') return 0;
    errno = EIO;
    return -1;
}
int fsync(int fd) { IN_ORDER(synced(fd, REAL(fsync))); }
int fdatasync(int fd) { IN_ORDER(synced(fd, REAL(fdatasync))); }
