/* SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
 * SPDX-License-Identifier: Apache-2.0 */

/* Stops a process before each system call that touches a name or a socket, until the test lets it continue; loaded with
 * LD_PRELOAD. While the file STEP_ON exists, the main thread connects to the Unix socket STEP_SOCKET before such a call,
 * sends the call's name, and waits for one byte. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void step(const char *call) {
    const char *on = getenv("STEP_ON"), *path = getenv("STEP_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int saved = errno, fd;
    char go;
    if (!on || !path || syscall(SYS_gettid) != getpid() || syscall(SYS_access, on, F_OK) != 0) { errno = saved; return; }
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    fd = syscall(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && syscall(SYS_connect, fd, &address, sizeof address) == 0 && syscall(SYS_write, fd, call, strlen(call)) > 0)
        while (syscall(SYS_read, fd, &go, 1) < 0 && errno == EINTR);
    if (fd >= 0) syscall(SYS_close, fd);
    errno = saved;
}

#define OPENS(flags, mode) \
    int mode = 0; \
    if ((flags) & O_CREAT) { va_list more; va_start(more, flags); mode = va_arg(more, int); va_end(more); }

int open(const char *path, int flags, ...) { OPENS(flags, mode) step("open"); return REAL(open)(path, flags, mode); }
int open64(const char *path, int flags, ...) { OPENS(flags, mode) step("open"); return REAL(open64)(path, flags, mode); }
int openat(int at, const char *path, int flags, ...) {
    OPENS(flags, mode) step("openat"); return REAL(openat)(at, path, flags, mode);
}
int openat64(int at, const char *path, int flags, ...) {
    OPENS(flags, mode) step("openat"); return REAL(openat64)(at, path, flags, mode);
}
int stat64(const char *path, struct stat64 *to) { step("stat"); return REAL(stat64)(path, to); }
int lstat64(const char *path, struct stat64 *to) { step("lstat"); return REAL(lstat64)(path, to); }
int fstat64(int fd, struct stat64 *to) { step("fstat"); return REAL(fstat64)(fd, to); }
int fstatat64(int at, const char *path, struct stat64 *to, int flags) {
    step("fstatat"); return REAL(fstatat64)(at, path, to, flags);
}
int mkdir(const char *path, mode_t mode) { step("mkdir"); return REAL(mkdir)(path, mode); }
int mkdirat(int at, const char *path, mode_t mode) { step("mkdirat"); return REAL(mkdirat)(at, path, mode); }
int rmdir(const char *path) { step("rmdir"); return REAL(rmdir)(path); }
int unlink(const char *path) { step("unlink"); return REAL(unlink)(path); }
int unlinkat(int at, const char *path, int flags) { step("unlinkat"); return REAL(unlinkat)(at, path, flags); }
int rename(const char *from, const char *to) { step("rename"); return REAL(rename)(from, to); }
int renameat(int from, const char *name, int to, const char *other) {
    step("renameat"); return REAL(renameat)(from, name, to, other);
}
int link(const char *from, const char *to) { step("link"); return REAL(link)(from, to); }
int chmod(const char *path, mode_t mode) { step("chmod"); return REAL(chmod)(path, mode); }
int fchmod(int fd, mode_t mode) { step("fchmod"); return REAL(fchmod)(fd, mode); }
int fchmodat(int at, const char *path, mode_t mode, int flags) {
    step("fchmodat"); return REAL(fchmodat)(at, path, mode, flags);
}
int bind(int fd, const struct sockaddr *address, socklen_t size) { step("bind"); return REAL(bind)(fd, address, size); }
int listen(int fd, int backlog) { step("listen"); return REAL(listen)(fd, backlog); }
int connect(int fd, const struct sockaddr *address, socklen_t size) {
    step("connect"); return REAL(connect)(fd, address, size);
}
