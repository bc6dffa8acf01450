/*  fuzz_config.c - any bytes as an env-file: what is accepted is sound, and no
    problem shows the secret.
*/
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "actors/base/config.h"
#include "proto/text.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

#define SECRET "zQ9xW7kV5"

static void check_accepted (const struct config *config)
{
    const struct settings *settings = &config->settings;
    assert (config->api_secret && *config->api_secret);
    assert (settings->app_1_name && settings->app_2_name && settings->reward_currency);
    assert (settings->events_client_id && settings->events_channel && settings->statsd_prefix);
    assert (config->host && config->state_dir);
    assert (text_is_utf8 (text_of (settings->app_2_name)));
    assert (strlen (settings->reward_id) <= REWARD_SIZE_MAX && !strpbrk (settings->reward_id, ":,/ "));
    assert (settings->window >= 1 && settings->window <= WINDOW_MAX);
    assert (settings->poll_timeout_ms >= 1000 && settings->http_timeout_ms >= 1000);
    for (int i = 0; i < SERVICE_COUNT; i++) {
        const char *base = config->services[i].base;
        size_t length = strlen (base);
        assert (strncmp (base, "http", 4) == 0 && base[length - 1] != '/');
        assert (strpbrk (base, " \r\n?#") == NULL);
    }
}

static void check_refused (const struct problems *problems, const uint8_t *data, size_t size)
{
    assert (problems->count > 0 && problems->size < sizeof problems->text);
    assert (text_is_utf8 ((struct text){ problems->text, (uint32_t) problems->size }));
    if (!memmem (data, size, SECRET, sizeof SECRET - 1)) {
        assert (!strstr (problems->text, SECRET));
    }
}

/*  The file is a memory file, reached under the name of its descriptor. */
int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    static struct config config;
    static struct problems problems;
    char path[32];
    int file = memfd_create ("env", MFD_CLOEXEC);
    if (file < 0 || write (file, data, size) != (ssize_t) size) {
        abort ();
    }
    clearenv ();
    setenv ("API_SECRET", SECRET "\xff", 1); /* refused, and not to be shown */
    if (size % 2) {
        unsetenv ("API_SECRET");
    }
    setenv ("HOME", "/", 1);
    snprintf (path, sizeof path, "/dev/fd/%d", file);
    struct config_request request = { .env_file = path, .sandbox = size % 3 == 0 };
    if (config_load (&config, &request, &problems)) {
        check_accepted (&config);
        config_use_sandbox (&config, (uint16_t) size);
        check_accepted (&config);
    } else {
        check_refused (&problems, data, size);
    }
    config_destroy (&config);
    close (file);
    return 0;
}
