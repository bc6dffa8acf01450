/*  usermeta_path.h - user ids and keys in the paths of the usermeta service.
    Pure. */
#ifndef GUERDON_USERMETA_PATH_H
#define GUERDON_USERMETA_PATH_H

#include "proto/text.h"

/*  True when the list route would not read this user id back as it is: it
    splits at commas and trims each id as JavaScript does. */
bool usermeta_user_alone (struct text user);

/*  Appends a key, percent-encoded but for "$". */
void usermeta_add_key (struct builder *path, struct text key);

/*  Appends comma-separated keys, each as usermeta_add_key does. */
void usermeta_add_keys (struct builder *path, struct text keys);

#endif
