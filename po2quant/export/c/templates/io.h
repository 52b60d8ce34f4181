/* Real numbers in and out of $name, for a device that has them as float. */
#ifndef ${prefix}_IO_H
#define ${prefix}_IO_H

#include "$name.h"

$functions

#endif
