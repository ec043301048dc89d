// Counts heap calls of each process that it is preloaded into. The counts stand in a file of the
// process's own, $UMBRA_MALLOCS/PID, mapped shared, so that they can be read while it runs.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MALLOC, CALLOC, REALLOC, ALIGNED, FREE, KINDS };

static _Atomic unsigned long before_start[KINDS];
static _Atomic unsigned long *counts = before_start;

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

#define COUNT(kind) atomic_fetch_add_explicit(&counts[kind], 1, memory_order_relaxed)

void *malloc(size_t size) { COUNT(MALLOC); return __libc_malloc(size); }
void *calloc(size_t count, size_t size) { COUNT(CALLOC); return __libc_calloc(count, size); }
void *realloc(void *old, size_t size) { COUNT(REALLOC); return __libc_realloc(old, size); }
void free(void *old) { if (old) COUNT(FREE); __libc_free(old); }
void *memalign(size_t a, size_t size) { COUNT(ALIGNED); return __libc_memalign(a, size); }
void *aligned_alloc(size_t a, size_t size) { COUNT(ALIGNED); return __libc_memalign(a, size); }
int posix_memalign(void **out, size_t a, size_t size) {
    COUNT(ALIGNED);
    *out = __libc_memalign(a, size);
    return *out ? 0 : ENOMEM;
}

__attribute__((constructor)) static void start(void) {
    const char *directory = getenv("UMBRA_MALLOCS");
    if (!directory) return;
    char path[4096];
    snprintf(path, sizeof path, "%s/%d", directory, (int)getpid());
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return;
    size_t size = KINDS * sizeof(unsigned long);
    if (ftruncate(fd, (off_t)size) == 0) {
        void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (page != MAP_FAILED) counts = page;
    }
    close(fd);
}
