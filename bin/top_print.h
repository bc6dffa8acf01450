/*  top_print.h - the tables of `guerdon top`, for people and for scripts. Pure.
*/
#ifndef GUERDON_TOP_PRINT_H
#define GUERDON_TOP_PRINT_H

#include "bin/top_figures.h"
#include "proto/codec.h"
#include "proto/text.h"

/*  Room for either form of as many processes as there may be. */
enum { TOP_PRINT_SIZE_MAX = 4 * 1024 * 1024 };

/*  All that there is to show. */
struct top_view {
    const struct top_process *processes;
    size_t count;
    const char *sort;
    uint64_t now_s;         /* wall time, since the epoch */
    struct top_line *lines; /* room for TOP_PROCESSES_MAX * TOP_ROWS_MAX, overwritten */
};

/*  Writes the tables, a line each row. */
void top_print_text (const struct top_view *view, struct builder *out);

/*  Writes one object, as msgpack. */
void top_print_object (const struct top_view *view, struct packer *out);

/*  Copies text so that it fits on a terminal of this size and stands in the place of
    what was there: the cursor goes home, every line is cut at the width, what is left
    of the screen is cleared. */
void top_print_screen (struct text text, unsigned rows, unsigned columns, struct builder *out);

#endif
