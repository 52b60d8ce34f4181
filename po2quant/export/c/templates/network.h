/* $banner */
#ifndef ${prefix}_H
#define ${prefix}_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ${prefix}_ARENA_BYTES $arena_bytes
#define ${prefix}_WEIGHT_BYTES $weight_bytes

$macros

/* Run one sample. Inputs must be in their ranges; inputs and outputs must not overlap. Not reentrant: the arena is
 * static, unless ${prefix}_NO_ARENA is defined and this function left out. */
void ${name}_run($parameters);

/* The same with an arena of yours: ${prefix}_ARENA_BYTES at an address that is a multiple of 8. */
void ${name}_run_with($with_parameters);

#ifdef $trace
/* Yours to define: called with every tensor of the program as soon as it is there. */
void ${name}_trace(const char *tensor, const void *integers, size_t size_bytes);
#endif

#ifdef $profile
/* Yours to define: called when a layer is done. */
void ${name}_layer_done(const char *layer);
#endif

#ifdef __cplusplus
}
#endif

#endif
