/*  page.h - an event as it stands in a page of the events service. */
#ifndef GUERDON_PAGE_H
#define GUERDON_PAGE_H

#include "proto/message.h"

/*  Reads one element of a page. False when it has no usable id: it is not an
    object, or `id` is not an integer from 1 to POSITION_MAX. Else everything
    but `trace` is filled, with `fault` saying what is wrong with the rest. */
bool page_event (struct raw element, struct event *event);

#endif
