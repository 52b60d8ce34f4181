/* $banner */
#ifndef ${prefix}_H
#define ${prefix}_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ${prefix}_FRAMES $frames
#define ${prefix}_SIZE $size
#define ${prefix}_EXPONENT ($exponent)

/* The features of a sound, ${prefix}_FRAMES times ${prefix}_SIZE integers, value = integer * 2**exponent; zeros follow a
 * sound of fewer samples. Not reentrant: its work space of $work_bytes bytes is static. */
void ${name}_run(const int16_t *sound, int32_t samples, ${output}_t *features);

#ifdef __cplusplus
}
#endif

#endif
