# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Make writes and syncs of the daemon fail while it runs, by a library that is loaded into its process."""

from __future__ import annotations

import errno
import shutil
import subprocess
from pathlib import Path
from typing import Final

from .harness import Daemon

#: Wraps the calls by which SQLite writes, for files below FAULT_DIR only. The fault is on while FAULT_FILE exists; its
#: text is "<kind> <errno> <milliseconds>". "torn" writes the first half and then fails. A sync takes the milliseconds,
#: and fails only for another errno than 0. Each faulty call leaves a byte in FAULT_COUNT.
SOURCE: Final = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static int fault(int fd, const char *kind) {
    char text[64] = {0}, wanted[16] = {0}, link[64], path[4096];
    const char *dir = getenv("FAULT_DIR"), *file = getenv("FAULT_FILE");
    int saved = errno, number = 0, milliseconds = 0, control;
    ssize_t length;
    if (!dir || !file || (control = open(file, O_RDONLY | O_CLOEXEC)) < 0) { errno = saved; return 0; }
    length = read(control, text, sizeof text - 1);
    close(control);
    errno = saved;
    if (length <= 0 || sscanf(text, "%15s %d %d", wanted, &number, &milliseconds) != 3) return 0;
    if (strcmp(wanted, kind)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (length <= 0) return 0;
    path[length] = 0;
    if (strncmp(path, dir, strlen(dir))) return 0;
    if ((control = open(getenv("FAULT_COUNT"), O_WRONLY | O_CREAT | O_APPEND, 0600)) >= 0) {
        if (syscall(SYS_write, control, "s", 1) == 1) usleep(1000 * milliseconds);
        close(control);
    }
    errno = saved;
    return number;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL(fd, kind) do { int number = fault(fd, kind); if (number) { errno = number; return -1; } } while (0)

int fsync(int fd) { FAIL(fd, "sync"); return REAL(fsync)(fd); }
int fdatasync(int fd) { FAIL(fd, "sync"); return REAL(fdatasync)(fd); }
int ftruncate(int fd, off_t size) { FAIL(fd, "write"); return REAL(ftruncate)(fd, size); }
int ftruncate64(int fd, off64_t size) { FAIL(fd, "write"); return REAL(ftruncate64)(fd, size); }

ssize_t write(int fd, const void *data, size_t size) {
    int torn = fault(fd, "torn");
    FAIL(fd, "write");
    if (torn) { if (size > 1) REAL(write)(fd, data, size / 2); errno = torn; return -1; }
    return REAL(write)(fd, data, size);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    int torn = fault(fd, "torn");
    FAIL(fd, "write");
    if (torn) { if (size > 1) REAL(pwrite)(fd, data, size / 2, at); errno = torn; return -1; }
    return REAL(pwrite)(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    int torn = fault(fd, "torn");
    FAIL(fd, "write");
    if (torn) { if (size > 1) REAL(pwrite64)(fd, data, size / 2, at); errno = torn; return -1; }
    return REAL(pwrite64)(fd, data, size, at);
}
"""


def compile_library(directory: Path) -> Path | None:
    """The library, or None where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    source, library = directory / "fault.c", directory / "fault.so"
    source.write_text(SOURCE)
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


class Fault:
    """A fault in the files below a daemon's $SNAP_COMMON; a test switches it on and off while the daemon runs."""

    def __init__(
        self, daemon: Daemon, library: Path, kind: str, number: int = errno.EIO, milliseconds: int = 0
    ) -> None:
        self._file = daemon.base / "fault"
        self._count = daemon.base / "fault-hits"
        self._text = f"{kind} {number} {milliseconds}"
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAULT_DIR": str(daemon.common),
            "FAULT_FILE": str(self._file),
            "FAULT_COUNT": str(self._count),
        }

    @property
    def hits(self) -> int:
        """The number of calls that met the fault while it was on."""
        return self._count.stat().st_size if self._count.exists() else 0

    def on(self) -> None:
        """Let the calls fail from now on."""
        new = self._file.with_name("fault.new")
        new.write_text(self._text)
        new.replace(self._file)

    def off(self) -> None:
        """Let the calls succeed again."""
        self._file.unlink()
