/*  page.h - an event as it stands in a page of the events service. */
#ifndef GUERDON_PAGE_H
#define GUERDON_PAGE_H

#include "proto/raw.h"

/*  Reads the element at the cursor and steps over it. False when the bytes are no
    whole object. The event's position is 0 when the element has no usable id: it
    is not a map, or `id` is not an integer from 1 to POSITION_MAX. Else everything
    is filled, with `fault` saying what is wrong with the rest. */
bool page_next (struct cursor *page, struct event *event);

#endif
