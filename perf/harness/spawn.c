// Preloaded into the supervisor: has one role started under another program, as
// `$UMBRA_WRAP_WITH … UMBRA role ROLE …`. The other roles start as ever.
//
// The supervisor starts its children from /proc/self/exe. Under valgrind that is valgrind itself,
// so the supervisor cannot run under it; and it need not, since only the role is of interest.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS_MAX = 64 };

typedef int spawn_function(pid_t *, const char *, const posix_spawn_file_actions_t *,
                           const posix_spawnattr_t *, char *const[], char *const[]);

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                const posix_spawnattr_t *attributes, char *const argv[], char *const environment[]) {
    spawn_function *next = (spawn_function *)dlsym(RTLD_NEXT, "posix_spawn");
    const char *role = getenv("UMBRA_WRAP_ROLE");
    const char *with = getenv("UMBRA_WRAP_WITH");
    const char *binary = getenv("UMBRA_WRAP_BINARY");
    if (!role || !with || !binary || !argv[1] || strcmp(argv[1], "role") != 0 || !argv[2]
        || strcmp(argv[2], role) != 0) {
        return next(pid, path, actions, attributes, argv, environment);
    }
    char *words[WORDS_MAX + 1];
    int count = 0;
    char *text = strdup(with);
    for (char *word = strtok(text, " "); word && count < WORDS_MAX; word = strtok(NULL, " ")) {
        words[count++] = word;
    }
    words[count++] = (char *)binary;
    for (int index = 1; argv[index] && count < WORDS_MAX; index++) words[count++] = argv[index];
    words[count] = NULL;
    int code = next(pid, words[0], actions, attributes, words, environment);
    free(text);
    return code;
}
