/*  config_check.c - one small function a kind of value.
*/
#include "actors/base/config_check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "actors/base/log.h"
#include "proto/text.h"

/*  A host name in DNS has at most this many bytes. */
enum { HOST_NAME_SIZE_MAX = 253 };

static bool within (struct text text, int64_t min, int64_t max)
{
    return text.size >= min && text.size <= max;
}

static bool is_control (unsigned char byte)
{
    return byte < 0x20 || byte == 0x7F;
}

static bool is_digit (unsigned char byte)
{
    return byte >= '0' && byte <= '9';
}

static bool is_alphanumeric (unsigned char byte)
{
    return is_digit (byte) || (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z');
}

static bool has_control (struct text text)
{
    for (uint32_t i = 0; i < text.size; i++) {
        if (is_control ((unsigned char) text.data[i])) {
            return true;
        }
    }
    return false;
}

/*  True when every byte is a letter, a digit, or one of `others`. */
static bool is_made_of (struct text text, const char *others)
{
    for (uint32_t i = 0; i < text.size; i++) {
        unsigned char byte = (unsigned char) text.data[i];
        if (!is_alphanumeric (byte) && (byte == '\0' || !strchr (others, byte))) {
            return false;
        }
    }
    return true;
}

bool check_number (struct text text, int64_t min, int64_t max, int64_t *number)
{
    return text_to_int (text, number) && *number >= min && *number <= max;
}

bool check_name (struct text text, int64_t min, int64_t max, int64_t *number)
{
    (void) number;
    return within (text, min, max) && text_is_utf8 (text) && !has_control (text);
}

bool check_secret (struct text text, int64_t min, int64_t max, int64_t *number)
{
    (void) number;
    return within (text, min, max) && text_is_utf8 (text) && !text_has (text, '\0');
}

bool check_reward (struct text text, int64_t min, int64_t max, int64_t *number)
{
    (void) number;
    return within (text, min, max) && is_made_of (text, "_.-");
}

bool check_statsd_prefix (struct text text, int64_t min, int64_t max, int64_t *number)
{
    return check_name (text, min, max, number) && !text_has (text, ':') && !text_has (text, '|');
}

/*  Labels of letters, digits, "-" and "_" (container names have it), none of
    them empty or beginning with "-"; one dot at the end is fine. */
static bool is_host_name (struct text text)
{
    char before = '.';
    for (uint32_t i = 0; i < text.size; i++) {
        char byte = text.data[i];
        if (before == '.' && (byte == '.' || byte == '-')) {
            return false;
        }
        before = byte;
    }
    return text.size <= HOST_NAME_SIZE_MAX && is_made_of (text, "._-");
}

bool check_host (struct text text, int64_t min, int64_t max, int64_t *number)
{
    (void) number;
    char string[HOST_NAME_SIZE_MAX + 1];
    if (!within (text, min, max) || text.size >= sizeof string || text_has (text, '\0')) {
        return false;
    }
    memcpy (string, text.data, text.size);
    string[text.size] = '\0';

    struct in6_addr address;
    if (strchr (string, ':')) {
        return inet_pton (AF_INET6, string, &address) == 1;
    }
    /*  Digits and dots are meant as an address: "10.0.0.300" is no name. */
    if (strspn (string, "0123456789.") == text.size) {
        return inet_pton (AF_INET, string, &address) == 1;
    }
    return is_host_name (text);
}

bool check_protocol (struct text text, int64_t min, int64_t max, int64_t *number)
{
    (void) min;
    (void) max;
    (void) number;
    return text_equal (text, TEXT_LITERAL ("http")) || text_equal (text, TEXT_LITERAL ("https"));
}

bool check_prefix (struct text text, int64_t min, int64_t max, int64_t *number)
{
    (void) number;
    if (!within (text, min, max) || text.data[0] != '/') {
        return false;
    }
    for (uint32_t i = 0; i < text.size; i++) {
        unsigned char byte = (unsigned char) text.data[i];
        if (byte <= 0x20 || byte >= 0x7F || byte == '?' || byte == '#') {
            return false;
        }
    }
    return true;
}

bool check_path (struct text text, int64_t min, int64_t max, int64_t *number)
{
    (void) number;
    return within (text, min, max) && !has_control (text);
}

bool check_level (struct text text, int64_t min, int64_t max, int64_t *number)
{
    (void) min;
    (void) max;
    static const enum log_level levels[] = { LOG_TRACE, LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_FATAL };
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        struct text name = text_of (log_level_name (levels[i]));
        if (name.size == text.size && strncasecmp (name.data, text.data, name.size) == 0) {
            *number = levels[i];
            return true;
        }
    }
    return false;
}

bool check_format (struct text text, int64_t min, int64_t max, int64_t *number)
{
    (void) min;
    (void) max;
    bool json = text_equal (text, TEXT_LITERAL ("json"));
    *number = json ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT;
    return json || text_equal (text, TEXT_LITERAL ("text"));
}

/*  The part of an endpoint behind its transport; empty when it has another. */
static struct text behind (struct text text, const char *transport)
{
    struct text start = text_of (transport);
    if (text.size <= start.size || memcmp (text.data, start.data, start.size) != 0)
        return NO_TEXT;
    return (struct text){ text.data + start.size, text.size - start.size };
}

/*  "host:port", "*:port", "[::1]:port", "interface:port". */
static bool is_host_and_port (struct text text)
{
    uint32_t colon = text.size;
    while (colon > 0 && text.data[colon - 1] != ':')
        colon--;
    uint64_t port;
    struct text digits = { text.data + colon, text.size - colon };
    return colon > 1 && text_to_uint (digits, 65535, &port) && port > 0;
}

bool check_endpoint (struct text text, int64_t min, int64_t max, int64_t *number)
{
    if (!check_path (text, min, max, number) || text_has (text, ',') || text_has (text, ' '))
        return false;
    struct text address = behind (text, "tcp://");
    if (address.size)
        return is_host_and_port (address);
    return behind (text, "ipc://").size || behind (text, "inproc://").size;
}

bool check_endpoints (struct text text, int64_t min, int64_t max, int64_t *number)
{
    enum { LIST_MAX = 16, ONE_SIZE_MAX = 255 };
    unsigned count = 0;
    if ((int64_t) text.size < min || (int64_t) text.size > max)
        return false;
    for (uint32_t at = 0; at <= text.size; count++) {
        uint32_t end = at;
        while (end < text.size && text.data[end] != ',')
            end++;
        if (end == at || !check_endpoint ((struct text){ text.data + at, end - at }, 1, ONE_SIZE_MAX, number))
            return false;
        at = end + 1;
    }
    return count <= LIST_MAX;
}
