/*
 * fuzz_server.h
 *		What the fuzzers put in the place of the server.
 */
#ifndef SERVER_H
#define SERVER_H

extern void free_all(void);

#endif							/* SERVER_H */
