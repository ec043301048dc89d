// What `import Glibc` leaves out: epoll, eventfd, signalfd, and the variadic or
// macro-only calls that Swift cannot import. Do not define _GNU_SOURCE here: release
// builds pass, then `swift test` fails merging fd_set.
#pragma once
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/statvfs.h>
#include <sys/timerfd.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// GNU extensions that need a declaration by hand.
extern int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags);
extern int pipe2(int fds[2], int flags);
extern int memfd_create(const char *name, unsigned int flags);
extern void *memrchr(const void *bytes, int byte, size_t count);
extern int fallocate(int fd, int mode, off_t offset, off_t length);

#define UMBRA_MFD_CLOEXEC 0x0001U
#define UMBRA_MFD_ALLOW_SEALING 0x0002U
#define UMBRA_SEAL_SIZE 0x0007 /* F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW */
#define UMBRA_F_ADD_SEALS 1033
#define UMBRA_FALLOC_PUNCH_HOLE (0x02 | 0x01) /* PUNCH_HOLE | KEEP_SIZE */

static inline int umbra_fcntl(int fd, int command, int argument) { return fcntl(fd, command, argument); }
static inline int umbra_open(const char *path, int flags, mode_t mode) { return open(path, flags, mode); }
static inline int umbra_prctl(int option, unsigned long argument) { return prctl(option, argument, 0, 0, 0); }
static inline int umbra_errno(void) { return errno; }
static inline void umbra_prefetch(const void *address) { __builtin_prefetch(address); }
#if defined(__x86_64__)
// The sign of each byte, the first one's lowest: Swift makes a pmovmskb of no expression.
typedef signed char umbra_bytes16 __attribute__((ext_vector_type(16)));
static inline uint32_t umbra_signs(umbra_bytes16 bytes) {
    typedef char lanes __attribute__((vector_size(16)));
    return (uint32_t)__builtin_ia32_pmovmskb128((lanes)bytes);
}
#endif
static inline const char *umbra_entry_name(const struct dirent *entry) { return entry->d_name; }

// The affinity mask of the calling thread: 1,024 CPUs, as the kernel's own cpu_set_t.
struct umbra_cpu_mask { uint64_t words[16]; };
static inline long umbra_getaffinity(struct umbra_cpu_mask *mask) {
    return syscall(SYS_sched_getaffinity, 0, sizeof *mask, mask);
}
static inline long umbra_setaffinity(const struct umbra_cpu_mask *mask) {
    return syscall(SYS_sched_setaffinity, 0, sizeof *mask, mask);
}
// sched_setattr(2), which older C libraries do not have: nice value and slice of this thread and what it
// starts. The scheduling policy stays whoever's choice it was.
static inline long umbra_set_scheduling(int nice, uint64_t slice_ns) {
    enum { keep_policy = 8 };
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attributes = {.size = sizeof attributes, .flags = keep_policy, .nice = nice, .runtime = slice_ns};
    return syscall(SYS_sched_setattr, 0, &attributes, 0);
}
static inline int umbra_wait_exited(int status) { return WIFEXITED(status); }
static inline int umbra_wait_status(int status) { return WEXITSTATUS(status); }
static inline int umbra_wait_signalled(int status) { return WIFSIGNALED(status); }
static inline int umbra_wait_signal(int status) { return WTERMSIG(status); }

// Whether the kernel takes the clock for synchronised: 1 or 0; -1 where it does not say.
static inline int umbra_clock_state(void) {
    struct timex state;
    memset(&state, 0, sizeof state);
    int result = adjtimex(&state);
    return result < 0 ? -1 : result != TIME_ERROR && !(state.status & STA_UNSYNC);
}

static inline void umbra_ignore_signal(int number) { signal(number, SIG_IGN); }

// Lets this thread, and what it starts, stand back: a nice value, never less than it has, and a slice of
// time. 0, or -1 where the kernel refuses both.
static inline int umbra_stand_back(int nice, uint64_t slice_ns) {
    int own = getpriority(PRIO_PROCESS, 0);
    int value = nice > own ? nice : own;
    return umbra_set_scheduling(value, slice_ns) == 0 ? 0 : setpriority(PRIO_PROCESS, 0, value);
}

// Starts `path` as posix_spawn(3) would, with `handed[n]`, which lies above all places, as descriptor
// `places[n]`, and no signal blocked. It stands back from its first instruction: until it did so by itself,
// a program that loads would take milliseconds of others'. 0, or errno.
static inline int umbra_spawn(pid_t *pid, const char *path, char **arguments, const int *handed,
                              const int *places, int count, int nice, uint64_t slice_ns) {
    extern char **environ;
    volatile int fault = 0;
    sigset_t all, none, before;
    sigfillset(&all);
    sigemptyset(&none);
    sigprocmask(SIG_BLOCK, &all, &before);
    pid_t child = vfork();
    if (child == 0) {
        // Until execve the memory is the parent's: none of its handlers may run here.
        for (int number = 1; number < NSIG; number++) {
            struct sigaction action;
            if (sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_IGN) {
                signal(number, SIG_DFL);
            }
        }
        umbra_stand_back(nice, slice_ns);
        int index = 0;
        while (index < count && dup2(handed[index], places[index]) >= 0) index++;
        if (index == count) {
            sigprocmask(SIG_SETMASK, &none, NULL);
            execve(path, arguments, environ);
        }
        fault = errno;
        _exit(127);
    }
    int code = child < 0 ? errno : fault;
    if (child > 0 && code != 0) waitpid(child, NULL, 0);
    sigprocmask(SIG_SETMASK, &before, NULL);
    *pid = child;
    return code;
}
