/* SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
 * SPDX-License-Identifier: Apache-2.0 */

/* Makes the nth call of a kind fail, once, in a process that runs; loaded with LD_PRELOAD.
 *
 * The file NTH_CONTROL is shared memory between the test and the process: nth.py's Control writes what is to fail there,
 * and finds there how often each kind was called. A call of open counts only for names below the directories in
 * NTH_DIRECTORIES, separated by colons; an allocation only when SQLite asks for it, after the first such open, as before
 * it Python loads its modules. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* In the order of nth.py's CALLS. */
enum call { OPEN, SOCKET, ACCEPT, SYNC, WRITE, RENAME, CONNECT, EVENTFD, SEND, ALLOCATE, BIND, UNLINK, MKDIR };

/* As nth.py's _CONTROL: `call` fails with `number` when it is called for the `nth` time from now; -1: none fails. */
static struct control {
    int32_t call, nth, number, hits;
    uint32_t seen[16];
} *control;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("NTH_CONTROL");
    int file = path ? REAL(open)(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (memory != MAP_FAILED) control = memory;
}

/* The number of the error by which this call fails; 0 when it does not fail. */
static int fails(enum call call) {
    if (!control) return 0;
    __sync_add_and_fetch(&control->seen[call], 1);
    if (control->call != (int)call || __sync_sub_and_fetch(&control->nth, 1) != 0) return 0;
    __sync_add_and_fetch(&control->hits, 1);
    return control->number;
}

#define FAIL(call, result) do { int number = fails(call); if (number) { errno = number; return result; } } while (0)

static int counts(int at, const char *name) {
    char path[PATH_MAX], link[32];
    const char *directories = getenv("NTH_DIRECTORIES");
    int saved = errno;
    if (!control || !directories) return 0;
    if (name[0] == '/') {
        snprintf(path, sizeof path, "%s", name);
    } else {
        snprintf(link, sizeof link, at == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", at);
        ssize_t got = readlink(link, path, sizeof path - 1);
        path[got < 0 ? 0 : got] = 0;
    }
    errno = saved;
    for (const char *one = directories; *one;) {
        size_t length = strcspn(one, ":");
        if (length && !strncmp(path, one, length)) return 1;
        one += length + (one[length] == ':');
    }
    return 0;
}

static int has_begun;

#define OPENING(at, name) do { if (counts(at, name)) { has_begun = 1; FAIL(OPEN, -1); } } while (0)
#define MODE() mode_t mode = 0; if (flags & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, flags); \
    mode = va_arg(rest, mode_t); va_end(rest); }

int open(const char *name, int flags, ...) {
    MODE(); OPENING(AT_FDCWD, name);
    return REAL(open)(name, flags, mode);
}
int open64(const char *name, int flags, ...) {
    MODE(); OPENING(AT_FDCWD, name);
    return REAL(open64)(name, flags, mode);
}
int openat(int at, const char *name, int flags, ...) {
    MODE(); OPENING(at, name);
    return REAL(openat)(at, name, flags, mode);
}
int openat64(int at, const char *name, int flags, ...) {
    MODE(); OPENING(at, name);
    return REAL(openat64)(at, name, flags, mode);
}
DIR *opendir(const char *name) {
    if (counts(AT_FDCWD, name)) FAIL(OPEN, NULL);
    return REAL(opendir)(name);
}

int socket(int family, int type, int protocol) { FAIL(SOCKET, -1); return REAL(socket)(family, type, protocol); }
int accept(int fd, struct sockaddr *address, socklen_t *size) { FAIL(ACCEPT, -1); return REAL(accept)(fd, address, size); }
int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags) {
    FAIL(ACCEPT, -1);
    return REAL(accept4)(fd, address, size, flags);
}
int connect(int fd, const struct sockaddr *address, socklen_t size) {
    FAIL(CONNECT, -1);
    return REAL(connect)(fd, address, size);
}
int bind(int fd, const struct sockaddr *address, socklen_t size) { FAIL(BIND, -1); return REAL(bind)(fd, address, size); }
int eventfd(unsigned int count, int flags) {
    FAIL(EVENTFD, -1);
    return ((int (*)(unsigned int, int))dlsym(RTLD_NEXT, "eventfd"))(count, flags);
}

ssize_t send(int fd, const void *data, size_t size, int flags) { FAIL(SEND, -1); return REAL(send)(fd, data, size, flags); }
ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t length) {
    FAIL(SEND, -1);
    return REAL(sendto)(fd, data, size, flags, to, length);
}
ssize_t sendmsg(int fd, const struct msghdr *message, int flags) { FAIL(SEND, -1); return REAL(sendmsg)(fd, message, flags); }

int fsync(int fd) { FAIL(SYNC, -1); return REAL(fsync)(fd); }
int fdatasync(int fd) { FAIL(SYNC, -1); return REAL(fdatasync)(fd); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { FAIL(WRITE, -1); return REAL(pwrite)(fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    FAIL(WRITE, -1);
    return REAL(pwrite64)(fd, data, size, at);
}
int ftruncate64(int fd, off64_t size) { FAIL(WRITE, -1); return REAL(ftruncate64)(fd, size); }

int rename(const char *name, const char *new_name) { FAIL(RENAME, -1); return REAL(rename)(name, new_name); }
int renameat(int at, const char *name, int to, const char *new_name) {
    FAIL(RENAME, -1);
    return REAL(renameat)(at, name, to, new_name);
}
int link(const char *name, const char *new_name) { FAIL(RENAME, -1); return REAL(link)(name, new_name); }
int linkat(int at, const char *name, int to, const char *new_name, int flags) {
    FAIL(RENAME, -1);
    return REAL(linkat)(at, name, to, new_name, flags);
}
int unlink(const char *name) { FAIL(UNLINK, -1); return REAL(unlink)(name); }
int unlinkat(int at, const char *name, int flags) { FAIL(UNLINK, -1); return REAL(unlinkat)(at, name, flags); }
int mkdir(const char *name, mode_t mode) { FAIL(MKDIR, -1); return REAL(mkdir)(name, mode); }
int mkdirat(int at, const char *name, mode_t mode) { FAIL(MKDIR, -1); return REAL(mkdirat)(at, name, mode); }

extern void *__libc_malloc(size_t size);
extern void *__libc_realloc(void *old, size_t size);

static uintptr_t sqlite_begin, sqlite_end;

static int look_for_sqlite(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size, (void)unused;
    if (!info->dlpi_name || !strstr(info->dlpi_name, "sqlite3")) return 0;
    for (int index = 0; index < info->dlpi_phnum; index++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[index];
        if (part->p_type != PT_LOAD || !(part->p_flags & PF_X) || !strstr(info->dlpi_name, "libsqlite3")) continue;
        sqlite_begin = info->dlpi_addr + part->p_vaddr;
        sqlite_end = sqlite_begin + part->p_memsz;
    }
    return sqlite_end != 0;
}

static int of_sqlite(void *caller) {
    if (!control || !has_begun) return 0;
    if (!sqlite_end && control->call == ALLOCATE) dl_iterate_phdr(look_for_sqlite, NULL);
    return (uintptr_t)caller >= sqlite_begin && (uintptr_t)caller < sqlite_end;
}

void *malloc(size_t size) {
    if (of_sqlite(__builtin_return_address(0))) FAIL(ALLOCATE, NULL);
    return __libc_malloc(size);
}
void *realloc(void *old, size_t size) {
    if (of_sqlite(__builtin_return_address(0))) FAIL(ALLOCATE, NULL);
    return __libc_realloc(old, size);
}
