/*  sandbox_env.c - see sandbox_env.h. */

#include "bin/sandbox_env.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/*  An env-file has no escapes: a value stands in the quotes that it does not
    contain, or bare when it contains both. */
static void write_variable (FILE *file, const char *name, const char *value)
{
    const char *quote = !strchr (value, '"') ? "\"" : !strchr (value, '\'') ? "'" : "";
    fprintf (file, "%s=%s%s%s\n", name, quote, value, quote);
}

static void write_variables (FILE *file, const struct config *config, uint16_t port)
{
    static const char *const links[SERVICE_COUNT] = {
        [SERVICE_EVENTS] = "EVENTS",
        [SERVICE_USERMETA] = "APP_1_USERMETA",
        [SERVICE_CURRENCY] = "APP_1_VIRTUALCURRENCY",
    };
    const struct settings *settings = &config->settings;
    write_variable (file, "API_SECRET", config->api_secret);
    write_variable (file, "APP_1_NAME", settings->app_1_name);
    write_variable (file, "APP_2_NAME", settings->app_2_name);
    write_variable (file, "EVENTS_CLIENT_ID", settings->events_client_id);
    write_variable (file, "EVENTS_CHANNEL", settings->events_channel);
    write_variable (file, "REWARD_APP_1_USER_LOGIN_APP_2_ID", settings->reward_id);
    fprintf (file, "REWARD_APP_1_USER_LOGIN_APP_2_AMOUNT=%" PRId64 "\n", settings->reward_amount);
    write_variable (file, "REWARD_APP_1_USER_LOGIN_APP_2_CURRENCY", settings->reward_currency);
    for (int i = 0; i < SERVICE_COUNT; i++) {
        if (config->services[i].given)
            continue;
        fprintf (file, "%s_PORT_8000_TCP_ADDR=127.0.0.1\n", links[i]);
        fprintf (file, "%s_PORT_8000_TCP_PORT=%u\n", links[i], (unsigned) port);
    }
}

bool sandbox_env_write (const struct config *config, uint16_t port, char *reason, size_t reason_size)
{
    char path[4096];
    char fresh[4096 + 8];
    snprintf (path, sizeof path, "%s/sandbox.env", config->state_dir);
    snprintf (fresh, sizeof fresh, "%s.new", path);
    int fd = open (fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FILE *file = fd >= 0 ? fdopen (fd, "w") : NULL;
    if (file) {
        write_variables (file, config, port);
        bool good = !ferror (file);
        if (fclose (file) == 0 && good && rename (fresh, path) == 0)
            return true;
    } else if (fd >= 0) {
        close (fd);
    }
    snprintf (reason, reason_size, "%s: %s", fresh, strerror (errno));
    return false;
}
