/*  resident.h - gives back memory that only the start of a process needed. */
#ifndef GUERDON_RESIDENT_H
#define GUERDON_RESIDENT_H

/*  Drops the resident pages of program and library files that were mapped but
    never written: relocation and initialisation touched most of them, and what
    is used later comes back from the page cache by itself. Returns freed heap
    pages too. Costs a few page faults afterwards; changes nothing else. */
void resident_trim (void);

#endif
