/*  crash_point.h - names for the places of the shell where a process may be killed.

    Only a build with GUERDON_CRASH_POINTS has them; in any other a point is nothing
    at all. Where a process dies is said by its environment: see tests/chaos.
*/
#ifndef GUERDON_CRASH_POINT_H
#define GUERDON_CRASH_POINT_H

#ifdef GUERDON_CRASH_POINTS

/*  The thread of `actor` passes the place `name`; does not return when the process is
    to die there. */
void crash_point_pass (const char *actor, const char *name);

#define CRASH_POINT(actor, name) crash_point_pass (actor, name)

#else

#define CRASH_POINT(actor, name) ((void) 0)

#endif

#endif
