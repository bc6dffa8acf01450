/*  usermeta_path.c - user ids and keys in paths. */

#include "actors/usermeta_client/usermeta_path.h"

#include <string.h>

/*  What JavaScript's trim() takes off: white space and line terminators of
    ECMA-262, in UTF-8. */
static const char *const trimmed[] = {
    "\t",           "\n",           "\v",           "\f",           "\r",           " ",
    "\xc2\xa0",     /* U+00A0 */
    "\xe1\x9a\x80", /* U+1680 */
    "\xe2\x80\x80", /* U+2000 to U+200A */
    "\xe2\x80\x81", "\xe2\x80\x82", "\xe2\x80\x83", "\xe2\x80\x84", "\xe2\x80\x85", "\xe2\x80\x86",
    "\xe2\x80\x87", "\xe2\x80\x88", "\xe2\x80\x89", "\xe2\x80\x8a", "\xe2\x80\xa8", /* U+2028 */
    "\xe2\x80\xa9",                                                                 /* U+2029 */
    "\xe2\x80\xaf",                                                                 /* U+202F */
    "\xe2\x81\x9f",                                                                 /* U+205F */
    "\xe3\x80\x80",                                                                 /* U+3000 */
    "\xef\xbb\xbf",                                                                 /* U+FEFF */
};

/*  True for a byte that begins or ends nothing of that table. */
static bool solid (char byte)
{
    return byte > ' ' && byte <= '~';
}

bool usermeta_user_alone (struct text user)
{
    if (text_has (user, ','))
        return true;
    if (user.size && solid (user.data[0]) && solid (user.data[user.size - 1]))
        return false;
    for (size_t i = 0; i < sizeof trimmed / sizeof *trimmed; i++) {
        size_t size = strlen (trimmed[i]);
        if (user.size < size)
            continue;
        if (memcmp (user.data, trimmed[i], size) == 0 ||
            memcmp (user.data + user.size - size, trimmed[i], size) == 0)
            return true;
    }
    return false;
}

/*  Appends a text percent-encoded, but for one byte that stays as it is. */
static void add_but (struct builder *path, struct text text, char plain,
                     void (*add) (struct builder *, struct text))
{
    uint32_t start = 0;
    for (uint32_t i = 0; i <= text.size; i++) {
        if (i < text.size && text.data[i] != plain)
            continue;
        if (i > start)
            add (path, (struct text){ text.data + start, i - start });
        if (i < text.size)
            builder_add (path, (struct text){ &plain, 1 });
        start = i + 1;
    }
}

void usermeta_add_key (struct builder *path, struct text key)
{
    add_but (path, key, '$', builder_percent);
}

void usermeta_add_keys (struct builder *path, struct text keys)
{
    add_but (path, keys, ',', usermeta_add_key);
}
