#if defined(MVE_KERNELS)
#include <arm_mve.h>
#endif
